"""Design of an experiment: variants, seeds, attacks and certificates, stored in the metadata of its results.

Results can be read without the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from gauntlet.config.compatibility import losses_of
from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json
from gauntlet.registry import ATTACKS
from gauntlet.reporting.aggregation.grids import GridDesign, grids_from_config

if TYPE_CHECKING:
    from gauntlet.config.schema import Experiment

DESIGN_KEY = "gauntlet.plan"

NO_PERTURBATION = "images are not perturbations of the samples"
"""Reason why an attack has no part in worst cases, and no accuracy."""


@dataclass(frozen=True)
class AttackDesign:
    """An attack: `epsilons` is the grid of a bounded attack, None for one that measures distances.

    `without` names the variants that it is not run on, such as the only source of a transfer. `maximizes` names a
    quantity that it maximizes after fooling the model, such as confidence in a wrong class. `counts` is false if it has
    no part in worst cases: its images are not perturbations of the samples, or it is run on the first `samples` of them
    only (None: on all), and a worst case over different images is none. `synthetic` marks images that are not
    perturbations. `title` is its printed name, if not `name`. `sources` are the variants whose models a transfer
    attacks instead of the evaluated one. `repeats` names the first of several attacks that differ only in their seed,
    None for all others. `noise` marks random images. `losses` are those that it ascends along the model's own
    gradients: empty if unknown, None if it takes none.
    """

    name: str
    norm: str
    epsilons: tuple[float, ...] | None
    without: tuple[str, ...] = ()
    maximizes: str | None = None
    counts: bool = True
    title: str | None = None
    sources: tuple[str, ...] = ()
    repeats: str | None = None
    noise: bool = False
    losses: tuple[str, ...] | None = ()
    samples: int | None = None
    synthetic: bool = False

    @property
    def is_perturbation(self) -> bool:
        """True if its images are perturbations of the samples."""
        # Files of earlier versions lack `synthetic`; there, no other attack was left out of worst cases.
        return not self.synthetic and (self.counts or self.samples is not None)

    @property
    def exclusion(self) -> str:
        """Reason why it has no part in worst cases; empty if it has."""
        reasons = [
            "" if self.is_perturbation else NO_PERTURBATION,
            "" if self.samples is None else f"on the first {self.samples} samples only",
        ]
        return "" if self.counts else " and ".join(filter(None, reasons))


@dataclass(frozen=True)
class CertificateDesign:
    """A certificate of some variants.

    `certifies` is "model", or the kind of classifier made from the model that the radii are about, such as "smoothed".
    """

    name: str
    norm: str
    certifies: str
    variants: tuple[str, ...]
    title: str | None = None


@dataclass(frozen=True)
class ExperimentDesign:
    """The grid of an experiment, in the order of tables and figures.

    `seeds` are those of all variants, `own_seeds` those of variants that do not have all of them (models that were
    adopted from checkpoints, one seed per file). `titles` maps variants to their printed names, where these differ;
    `headline` maps norms to the budgets of the paper's tables, where the configuration states them; `grids` are the
    grids that some of the variants are of.
    """

    experiment: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    attacks: tuple[AttackDesign, ...]
    certificates: tuple[CertificateDesign, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    headline: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    own_seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    grids: tuple[GridDesign, ...] = ()

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        """Return the seeds of a variant's models."""
        return self.own_seeds.get(variant, self.seeds)

    @property
    def norms(self) -> tuple[str, ...]:
        """Norms of the attacks, in order of first appearance."""
        return tuple(dict.fromkeys(attack.norm for attack in self.attacks))

    def attacks_in(self, norm: str) -> tuple[AttackDesign, ...]:
        """Return the attacks that measure their budget in `norm`."""
        return tuple(attack for attack in self.attacks if attack.norm == norm)

    def counted_in(self, norm: str) -> tuple[AttackDesign, ...]:
        """Return the attacks of the worst case in `norm`; without any, there is no worst case."""
        return tuple(attack for attack in self.attacks_in(norm) if attack.counts)

    @property
    def clean_attacks(self) -> tuple[str, ...]:
        """Attacks that are run on the most samples: clean accuracy is measured on these."""
        return tuple(attack.name for attack in self.attacks if attack.samples == self.clean_samples)

    @property
    def clean_samples(self) -> int | None:
        """Number of samples that clean accuracy is measured on, the first ones; None for all."""
        numbers = [attack.samples for attack in self.attacks]
        return None if None in numbers else max(filter(None, numbers), default=None)

    @property
    def single_losses(self) -> dict[str, str]:
        """Norms in whose worst case every attack along gradients ascends the same known loss, and that loss."""
        single = {}
        for norm in self.norms:
            losses = {attack.losses for attack in self.counted_in(norm) if attack.losses is not None}
            if len(losses) == 1 and len(only := losses.pop()) == 1:
                single[norm] = only[0]
        return single

    @property
    def uncounted(self) -> dict[str, str]:
        """Attacks that have no part in a worst case, and the reason."""
        return {attack.name: attack.exclusion for attack in self.attacks if not attack.counts}

    @property
    def derived_certificates(self) -> tuple[str, ...]:
        """Certificates of classifiers derived from the attacked models (e.g. smoothed): no attack can refute them."""
        return tuple(certificate.name for certificate in self.certificates if certificate.certifies != "model")

    def cells(self) -> Iterator[tuple[str, int, str]]:
        """Yield every planned (variant, seed, attack)."""
        for variant in self.variants:
            for seed in self.seeds_of(variant):
                for attack in self.attacks:
                    if variant not in attack.without:
                        yield variant, seed, attack.name

    def metadata(self) -> dict[str, str]:
        """Return the metadata entry of a results file."""
        return {DESIGN_KEY: canonical_json(asdict(self))}


def losses_together(attacks: Iterable[AttackDesign]) -> set[str] | None:
    """Return the losses that attacks ascend together: empty if unknown, None if none takes gradients."""
    known = [attack.losses for attack in attacks if attack.losses is not None]
    return {loss for losses in known for loss in losses} if known else None


_DESIGN = TypeAdapter(ExperimentDesign)


def design_from_config(name: str, experiment: Experiment) -> ExperimentDesign:
    """Build the design of an experiment from its configuration."""
    variants, repeats = experiment.measured, _repeats(experiment)
    attacks = (_attack(experiment, key, repeats.get(key)) for key in experiment.attacks)
    certificates = (
        CertificateDesign(
            key,
            certificate.norm,
            certificate.certifies,
            tuple(variant for variant in variants if experiment.can_certify(certificate, variant)),
            certificate.title,
        )
        for key, certificate in experiment.certificates.items()
    )
    seeds_of = {variant: experiment.seeds_of(variant) for variant in variants}
    seeds = tuple(dict.fromkeys(seed for own in seeds_of.values() for seed in own))
    return ExperimentDesign(
        experiment=name,
        variants=variants,
        seeds=seeds,
        attacks=tuple(attacks),
        certificates=tuple(certificates),
        titles=experiment.presentation().get("variants", {}),
        headline=dict(experiment.headline.items()),
        own_seeds={variant: own for variant, own in seeds_of.items() if set(own) != set(seeds)},
        grids=grids_from_config(experiment),
    )


def _attack(experiment: Experiment, key: str, repeats: str | None) -> AttackDesign:
    attack, variants, samples = experiment.attacks[key], experiment.measured, experiment.fewer_samples(key)
    tags = ATTACKS.entry(attack.attack.name).tags
    synthetic = tags.get("access") == "none"
    return AttackDesign(
        name=key,
        norm=attack.norm,
        epsilons=attack.epsilons,
        without=tuple(variant for variant in variants if not attack.applies_to(variant, variants)),
        maximizes=tags.get("maximizes"),
        counts=not synthetic and samples is None,
        title=attack.title,
        sources=attack.transfer_from or (),
        repeats=repeats,
        noise=tags.get("search") == "random",
        # An attack of the user's own that does not name its access may follow gradients, of a loss that is unknown.
        losses=losses_of(attack.attack)
        if tags.get("access", "gradient") == "gradient" and not attack.transfer_from
        else None,
        samples=samples,
        synthetic=synthetic,
    )


def _repeats(experiment: Experiment) -> dict[str, str]:
    """Map each attack that differs from another only in its seed to the first of these."""
    groups: dict[str, list[str]] = {}
    for key in experiment.attacks:
        groups.setdefault(canonical_json({**experiment.attack_dict(key), "seed": None}), []).append(key)
    return {key: names[0] for names in groups.values() if len(names) > 1 for key in names}


def design_from_metadata(metadata: Mapping[str, str]) -> ExperimentDesign | None:
    """Read the design from a file's metadata; None where there is none.

    Raises InputError when the entry is not a design.
    """
    if DESIGN_KEY not in metadata:
        return None
    try:
        return _DESIGN.validate_json(metadata[DESIGN_KEY])
    except ValueError as error:
        raise InputError(
            "the experiment's design in the file's metadata cannot be read", remedy="aggregate again"
        ) from error
