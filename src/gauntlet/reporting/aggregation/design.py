"""What an experiment set out to measure, carried inside its results: they are read without the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json
from gauntlet.registry import ATTACKS

if TYPE_CHECKING:
    from gauntlet.config.schema import Experiment

DESIGN_KEY = "gauntlet.plan"


@dataclass(frozen=True)
class AttackDesign:
    """A column of the results: `epsilons` is the grid of a bounded attack, None where distances are measured.

    `without` names the variants that it is not run on: a transfer has no cell on the variant that it comes from.
    `maximizes` names what an attack maximizes beyond fooling the model, such as confidence in a wrong class. `counts`
    is false where its images are no perturbations, so that it has no part in a worst case. `title` is what it is called
    in print, if not by its name. `sources` are the variants whose models it sees in place of the one it attacks.
    `repeats` names the first attack that it is the same as but for its seed: itself where there are others, None where
    it stands alone. `noise` says that its images are drawn at random.
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


@dataclass(frozen=True)
class CertificateDesign:
    """A certificate of some variants.

    `certifies` is "model", or names the classifier made from the model that the radii are about.
    """

    name: str
    norm: str
    certifies: str
    variants: tuple[str, ...]
    title: str | None = None


@dataclass(frozen=True)
class ExperimentDesign:
    """The grid of one experiment, in the order in which tables and figures show it.

    `titles` says what variants are called in print, where not by their names; `headline` at which budgets, by norm, the
    tables of a paper state accuracies, where that was asked for.
    """

    experiment: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    attacks: tuple[AttackDesign, ...]
    certificates: tuple[CertificateDesign, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    headline: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms in use, in order of first appearance."""
        return tuple(dict.fromkeys(attack.norm for attack in self.attacks))

    def attacks_in(self, norm: str) -> tuple[AttackDesign, ...]:
        """The attacks that measure their budget in `norm`."""
        return tuple(attack for attack in self.attacks if attack.norm == norm)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """The attacks that have no part in a worst case."""
        return tuple(attack.name for attack in self.attacks if not attack.counts)

    @property
    def of_others(self) -> tuple[str, ...]:
        """The certificates of other classifiers than the attacked models: their radii bound no attack's distance."""
        return tuple(one.name for one in self.certificates if one.certifies != "model")

    def cells(self) -> Iterator[tuple[str, int, str]]:
        """List every planned (variant, seed, attack)."""
        for variant in self.variants:
            for seed in self.seeds:
                for attack in self.attacks:
                    if variant not in attack.without:
                        yield variant, seed, attack.name

    def metadata(self) -> dict[str, str]:
        """Give the entry that a results file carries."""
        return {DESIGN_KEY: canonical_json(asdict(self))}


def design_from_config(name: str, experiment: Experiment) -> ExperimentDesign:
    """Read the plan of an experiment from its configuration."""
    variants = tuple(experiment.variants)
    repeats = _repeats(experiment)
    attacks = (
        AttackDesign(
            key,
            attack.norm,
            attack.epsilons,
            tuple(one for one in variants if not attack.applies_to(one, variants)),
            ATTACKS.entry(attack.attack.name).tags.get("maximizes"),
            ATTACKS.entry(attack.attack.name).tags.get("access") != "none",
            attack.title,
            attack.transfer_from or (),
            repeats.get(key),
            ATTACKS.entry(attack.attack.name).tags.get("search") == "random",
        )
        for key, attack in experiment.attacks.items()
    )
    certificates = (
        CertificateDesign(
            key,
            one.norm,
            one.certifies,
            tuple(variant for variant, settings in experiment.variants.items() if one.applies_to(settings)),
            one.title,
        )
        for key, one in experiment.certificates.items()
    )
    headline: dict[str, tuple[float, ...]] = dict(experiment.headline.items())
    titles = {key: one.title for key, one in experiment.variants.items() if one.title}
    return ExperimentDesign(
        name, variants, tuple(experiment.seeds), tuple(attacks), tuple(certificates), titles, headline
    )


def _repeats(experiment: Experiment) -> dict[str, str]:
    """Map each attack of which there is another that differs in its seed only to the first of them."""
    alike: dict[str, list[str]] = {}
    for key, attack in experiment.attacks.items():
        alike.setdefault(canonical_json({**attack.as_dict(), "seed": None}), []).append(key)
    return {key: names[0] for names in alike.values() if len(names) > 1 for key in names}


def design_from_metadata(metadata: Mapping[str, str]) -> ExperimentDesign | None:
    """Rebuild the plan that a file's metadata holds; None where it holds none.

    Raises InputError when what it holds is no plan.
    """
    if DESIGN_KEY not in metadata:
        return None
    try:
        plain: dict[str, Any] = json.loads(metadata[DESIGN_KEY])
        attacks = tuple(
            AttackDesign(
                item["name"],
                item["norm"],
                item["epsilons"] and tuple(item["epsilons"]),
                tuple(item.get("without", ())),
                item.get("maximizes"),
                item.get("counts", True),
                item.get("title"),
                tuple(item.get("sources", ())),
                item.get("repeats"),
                item.get("noise", False),
            )
            for item in plain["attacks"]
        )
        certificates = tuple(
            CertificateDesign(item["name"], item["norm"], item["certifies"], tuple(item["variants"]), item.get("title"))
            for item in plain["certificates"]
        )
        headline = {norm: tuple(values) for norm, values in plain.get("headline", {}).items()}
        variants, seeds = tuple(plain["variants"]), tuple(plain["seeds"])
        return ExperimentDesign(
            plain["experiment"], variants, seeds, attacks, certificates, dict(plain.get("titles", {})), headline
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the file's plan cannot be read", remedy="aggregate again") from error
