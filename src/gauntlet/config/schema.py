"""The schema of a configuration file: every key, its type, default and meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from gauntlet.config.attacks import Attack
from gauntlet.config.base import Closed, Name
from gauntlet.config.certificates import Certificate
from gauntlet.config.choices import AnyVariant, Choice, candidates_in
from gauntlet.config.components import Problem, refuse
from gauntlet.config.datasets import Dataset
from gauntlet.config.error_texts import found_text
from gauntlet.config.execution import Execution
from gauntlet.config.experiment_problems import experiment_problems
from gauntlet.config.grids.axes import Grid, Levels
from gauntlet.config.grids.expansion import CELLS_AT_MOST, MOST_CELLS
from gauntlet.config.grids.selection import select_variants
from gauntlet.config.published import Published
from gauntlet.config.quick import quick_name
from gauntlet.config.variants import Training, Variant
from gauntlet.core.errors import nearest
from gauntlet.core.norms import Norm
from gauntlet.registry import NonNegativeInt, PositiveFloat, PositiveInt, Seed


class Diagnostics(Closed):
    """Diagnostics of gradient masking."""

    enabled: bool = Field(True, description="diagnose every model of an experiment that has attacks")
    samples: PositiveInt = Field(100, description="number of test images: the first correctly classified ones")
    steps: PositiveInt = Field(20, description="gradient steps of each diagnostic attack; some take four times as many")


_MOST_SEEDS = 10_000


def _as_seeds(value: Any) -> Any:
    """Accept the number of seeds in place of a list: 5 is 0 to 4."""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_SEEDS:
        refuse([((), f"expected 1 to {_MOST_SEEDS} seeds, or a list of them, got {found_text(value)}")])
    return tuple(range(value))


def _as_selection(value: Any) -> Any:
    """Refuse an item of `show` that is neither a name nor a condition; axes may be called by integers."""
    if not isinstance(value, str | Mapping):
        problem = f"expected the name of a variant, or a condition such as {{axis: level}}, got {found_text(value)}"
        refuse([((), problem)])
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else value


Selected = Annotated[str | dict[str, Any], BeforeValidator(_as_selection)]


class Experiment(Closed):
    """One data set × variants × seeds × attacks × certificates."""

    dataset: Dataset = Field(description="the images")
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_seeds)] = Field(
        (0, 1, 2),
        strict=False,
        min_length=1,
        description="training seeds, as a list or their number: 5 is 0 to 4; each variant is trained once per seed, "
        "variants with `weights` have one per file",
    )
    training: Training = Field(
        default_factory=lambda: Training.model_validate({}), description="training of every variant"
    )
    variants: dict[Name, AnyVariant] = Field(
        min_length=1, description="the rows of the ablation, in the order of figures"
    )
    attacks: dict[Name, Attack] = Field({}, description="the columns of the results")
    certificates: dict[Name, Certificate] = Field(
        {}, description="lower bounds, checked against every attack on the certified classifier"
    )
    diagnostics: Diagnostics = Field(Diagnostics(), description="diagnostics of gradient masking for every model")
    samples: PositiveInt | None = Field(
        None, description="number of test images to attack and certify, the first ones; default: all"
    )
    headline: dict[Norm, Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)]] = Field(
        {},
        description="by norm, the budgets in pixel units of the accuracies in tables for a paper; default: the budget "
        "of most attacks of the norm",
    )
    show: Annotated[tuple[Selected, ...], Field(strict=False, min_length=1)] | None = Field(
        None,
        description="variants that figures show, by name or by conditions on axes such as {activation: relu}; tables, "
        "matrices and the page have all variants; default: all, or as docs/ablations.md states for more than eight",
    )
    facets: Annotated[tuple[Name, ...], Field(strict=False, min_length=1, max_length=2)] | None = Field(
        None,
        description="one or two axes for whose levels figures of more than eight variants have panels; default: those "
        "that make the fewest panels with at most eight lines",
    )
    examples: NonNegativeInt = Field(32, description="adversarial images kept per cell")
    cells_at_most: PositiveInt = Field(
        MOST_CELLS, description="largest number of variants × seeds × attacks of an experiment that has grids"
    )
    allow_missing: bool = Field(
        False, description="aggregate without the cells that are missing or stale, and state this in tables and figures"
    )
    published: Published | None = Field(
        None,
        description="numbers that the source has published, for the table and the page's section of published numbers; "
        "a quick form has none",
    )
    quick: dict[Any, Any] | None = Field(
        None,
        description="keys that differ in a second, smaller form NAME_quick: mappings merge key by key, lists and "
        "scalars replace, null removes a key; run by the target `quick` only",
    )

    _grids: tuple[Grid, ...] = PrivateAttr(())
    _drawn: dict[str, Mapping[str, Any]] = PrivateAttr({})

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids that made some of the variants, in the order of the configuration; they are in no recipe."""
        return self._grids

    @property
    def measured_grids(self) -> tuple[Grid, ...]:
        """The grids with those of their variants that are measured, without grids of candidates alone."""
        measured = set(self.measured)
        kept = (
            replace(grid, variants={name: levels for name, levels in grid.variants.items() if name in measured})
            for grid in self._grids
        )
        return tuple(grid for grid in kept if grid.variants)

    def keep_grids(self, grids: Iterable[Grid]) -> None:
        """Keep the grids that made some of the variants; loading does so."""
        self._grids = tuple(grids)

    @property
    def drawn(self) -> Mapping[str, Mapping[str, Any]]:
        """The drawn settings of each candidate that `candidates` made; they are in no recipe of a model."""
        return self._drawn

    def keep_drawn(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the drawn settings of candidates; loading does so."""
        self._drawn = dict(settings)

    def levels_of(self, variant: str) -> Levels:
        """Return the level of each axis that a variant has, in the order of the axes; none if no grid made it."""
        return next((grid.variants[variant] for grid in self._grids if variant in grid.variants), {})

    def shown(self) -> tuple[tuple[str, ...], list[Problem]]:
        """Return the variants that `show` selects, and its problems at key paths below it; none without the key."""
        if not self.show:
            return (), []
        owners = {candidate: name for name, choice in self.choices.items() for candidate in choice.chosen_from}
        return select_variants(self.show, self.measured, self._grids, owners=owners)

    def facets_problem(self) -> str | None:
        """Return a message if `facets` names something that is no axis; None if not."""
        axes = dict.fromkeys(axis.name for grid in self._grids for axis in grid.axes)
        unknown = [name for name in self.facets or () if name not in axes]
        if not unknown:
            return None
        return f"no axis '{unknown[0]}'; {nearest(unknown[0], axes) if axes else 'no variant has `axes`'}"

    def size_problem(self) -> str | None:
        """Return a message if an experiment with grids has more cells than it allows; None if not."""
        seeds = sum(len(self.seeds_of(variant)) for variant in self.measured)
        candidates = sum(len(self.seeds_of(variant)) for variant in self.variants) - seeds
        cells = seeds * max(1, len(self.attacks)) + candidates
        if not self._grids or cells <= self.cells_at_most:
            return None
        counts = f"{len(self.measured)} variants with {seeds} seeds together and {len(self.attacks)} attacks"
        counts += f", and {candidates} models of candidates," if candidates else ""
        allowed = f"{self.cells_at_most} are allowed; restrict the grid, or set `{CELLS_AT_MOST}: {cells}`"
        return f"{counts} are {cells} cells, and {allowed}"

    @model_validator(mode="before")
    @classmethod
    def _expand_transfers(cls, value: Any) -> Any:
        """Replace an attack with ``transfer_from: *`` by one per variant that is no candidate, in its place."""
        if not isinstance(value, Mapping):
            return value
        variants, written = value.get("variants"), value.get("attacks")
        if not isinstance(variants, Mapping) or not isinstance(written, Mapping):
            return value
        attacks: dict[Any, Any] = {}
        candidates = candidates_in(variants)
        sources = [variant for variant in variants if variant not in candidates]
        for name, attack in written.items():
            expanded = {name: attack}
            if isinstance(attack, Mapping) and attack.get("transfer_from") == "*":
                expanded = {f"{name}_from_{variant}": _transfer(attack, variant) for variant in sources}
            clash = next((key for key in expanded if key in attacks), None)
            refuse([(("attacks", str(name)), f"two attacks are called '{clash}'")] if clash else [])
            attacks.update(expanded)
        return {**value, "attacks": attacks}

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        refuse(list(experiment_problems(self)))
        return self

    @cached_property
    def networks(self) -> dict[str, Variant]:
        """The variants with a network of their own, trained or adopted; the others are chosen from among these."""
        return {name: variant for name, variant in self.variants.items() if isinstance(variant, Variant)}

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """The variants whose model is that of a candidate."""
        return {name: variant for name, variant in self.variants.items() if isinstance(variant, Choice)}

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """The variants that are attacked, certified, diagnosed, inspected and shown: all but the candidates."""
        candidates = {name for choice in self.choices.values() for name in choice.chosen_from}
        return tuple(name for name in self.variants if name not in candidates)

    def possible_networks(self, variant: str) -> dict[str, Variant]:
        """Return the variants whose network a variant's model may have, by name: itself, or the candidates."""
        if variant in self.networks:
            return {variant: self.networks[variant]}
        candidates = self.choices[variant].chosen_from
        return {name: self.networks[name] for name in candidates if name in self.networks}

    def measured_as(self, variant: str) -> tuple[str, ...]:
        """Return the measured variants that may have a variant's model: itself, or those chosen from it."""
        if variant in self.measured:
            return (variant,)
        return tuple(name for name, choice in self.choices.items() if variant in choice.chosen_from)

    def can_certify(self, certificate: Certificate, variant: str) -> bool:
        """Return whether a certificate applies to a variant, whichever candidate is chosen."""
        networks = self.possible_networks(variant).values()
        return bool(networks) and all(certificate.applies_to(network) for network in networks)

    def samples_of(self, attack: str) -> int | None:
        """Return the number of test images that an attack is run on, the first ones; None for all."""
        return self.attacks[attack].samples or self.samples

    def fewer_samples(self, attack: str) -> int | None:
        """Return the number of test images of an attack on only some of the experiment's; None for all of these."""
        samples = self.attacks[attack].samples
        return None if samples == self.samples else samples

    def attack_dict(self, attack: str) -> dict[str, Any]:
        """Return what decides the rows of an attack on a fixed model, and whether it is in worst cases."""
        fewer = self.fewer_samples(attack)
        return {**self.attacks[attack].as_dict(), **({} if fewer is None else {"samples": fewer})}

    def presentation(self) -> dict[str, Any]:
        """Return what decides how results are presented and no result: titles, headline and grids, those that are set.

        The levels of grids have printed names too, and order the tables of their effects.
        """
        kinds: dict[str, Mapping[str, Variant | Choice | Attack | Certificate]] = {
            "variants": {name: self.variants[name] for name in self.measured},
            "attacks": self.attacks,
            "certificates": self.certificates,
        }
        titles = {
            kind: {name: item.title for name, item in items.items() if item.title} for kind, items in kinds.items()
        }
        headline = {norm: list(values) for norm, values in self.headline.items()}
        grids = [grid.as_dict() for grid in self.measured_grids]
        return {key: value for key, value in ({**titles, "headline": headline, "grids": grids}).items() if value}

    def as_dict(self) -> dict[str, Any]:
        """Return all that the experiment consists of, defaults filled in, as plain values."""
        return {
            "dataset": self.dataset.as_dict(),
            "seeds": list(self.seeds),
            "samples": self.samples,
            "examples": self.examples,
            "diagnostics": self.diagnostics.model_dump(),
            "variants": {
                name: variant.as_dict()
                if isinstance(variant, Choice) or variant.is_adopted
                else {**variant.as_dict(), "training": self.training_of(name).as_dict()}
                for name, variant in self.variants.items()
            },
            "attacks": {name: self.attack_dict(name) for name in self.attacks},
            "certificates": {name: certificate.as_dict() for name, certificate in self.certificates.items()},
        }

    def budgets(self, units: str = "pixels") -> dict[str, list[float]]:
        """Return the budgets of the bounded attacks that are in `units`, by norm, ascending, each once."""
        found: dict[str, set[float]] = {}
        for attack in self.attacks.values():
            found.setdefault(attack.norm, set()).update(attack.epsilons or () if attack.units == units else ())
        return {norm: sorted(values) for norm, values in found.items() if values}

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        """Return the seeds of a variant's models: the experiment's, or 0, 1, … for its checkpoints."""
        network = next(iter(self.possible_networks(variant).values()), None)
        return self.seeds if network is None or network.weights is None else tuple(range(len(network.weights)))

    def key_path_of_training(self, variant: str, key: str) -> tuple[str, ...]:
        """Return where a key of a variant's training is set, or would be."""
        is_own = key in self.networks[variant].training.model_fields_set
        return (*(("variants", variant) if is_own else ()), "training", key)

    def training_of(self, variant: str) -> Training:
        """Merge the experiment's training with the keys that a variant sets; the defaults for one that is adopted.

        A chosen variant has no training of its own.
        """
        if self.networks[variant].is_adopted:
            return Training.model_validate({})
        changes = self.networks[variant].training
        return self.training.model_copy(update={name: getattr(changes, name) for name in changes.model_fields_set})


def _transfer(attack: Mapping[Any, Any], variant: Any) -> dict[Any, Any]:
    """Return an attack that transfers from one variant, which its title names."""
    title = {"title": f"{attack['title']} from {variant}"} if "title" in attack else {}
    return {**attack, "transfer_from": variant, **title}


class Config(Closed):
    """A configuration file."""

    experiments: dict[Name, Experiment] = Field(min_length=1, description="by name")
    execution: Execution = Field(Execution(), description="devices, batch sizes, precision, cluster")
    strict_environment: bool = Field(
        False, description="redo everything when the lock or an installed package that affects results changes"
    )

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        """Refuse one fixed device for a training that needs several, and a device without a training's precision."""
        trainings = [
            (
                ("experiments", name, *experiment.key_path_of_training(variant, "precision")),
                experiment.training_of(variant),
            )
            for name, experiment in self.experiments.items()
            for variant in experiment.networks
        ]
        device = self.execution.device
        if ":" in device and any(training.gpus > 1 for _, training in trainings):
            problem = f"{device} is one device, and `training.gpus` needs several; set auto or cuda"
            refuse([(("execution", "device"), problem)])
        if device == "cpu":
            problem = (
                "no CPU computes in tf32, and `execution.device` is cpu; set float32 or bfloat16, or device to cuda"
            )
            refuse([(key_path, problem) for key_path, training in trainings if training.precision == "tf32"])
        return self

    @property
    def quick_forms(self) -> tuple[str, ...]:
        """The names of the experiments that are quick forms; they are run by name or target only."""
        return tuple(quick_name(name) for name, full in self.experiments.items() if full.quick is not None)

    @property
    def full_forms(self) -> tuple[str, ...]:
        """The names of all other experiments."""
        quick = self.quick_forms
        return tuple(name for name in self.experiments if name not in quick)
