"""The schema of a configuration file: every key, its type, its default, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    StringConstraints,
    model_validator,
)

from gauntlet.config.attacks import Attack
from gauntlet.config.base import Closed, Name, spelt
from gauntlet.config.certificates import Certificate
from gauntlet.config.cluster import Cluster
from gauntlet.config.compatibility import code_problem, misfits, surrogate_problem, targets_problem
from gauntlet.config.components import refuse
from gauntlet.config.datasets import Dataset
from gauntlet.config.quick import quick_name
from gauntlet.config.variants import Training, Variant
from gauntlet.core.errors import nearest
from gauntlet.core.norms import Norm
from gauntlet.registry import CERTIFICATES, NonNegativeInt, PositiveFloat, PositiveInt, Seed


class Diagnostics(Closed):
    """Probes of every model for gradient masking."""

    enabled: bool = Field(True, description="probe every model of an experiment that has attacks")
    samples: PositiveInt = Field(100, description="correctly classified test images that are probed, the first ones")
    steps: PositiveInt = Field(
        20, description="gradient steps of each attack that probes; some take four times as many"
    )


_CROSSED = ("attacks", "variants")


class Experiment(Closed):
    """One data set × variants × seeds × attacks × certificates."""

    dataset: Dataset = Field(description="the images")
    seeds: tuple[Seed, ...] = Field((0, 1, 2), strict=False, min_length=1, description="one training each")
    training: Training = Field(
        default_factory=lambda: Training.model_validate({}), description="how every variant is trained"
    )
    variants: dict[Name, Variant] = Field(min_length=1, description="the rows of the ablation, in the figures' order")
    attacks: dict[Name, Attack] = Field({}, description="the columns of the results")
    certificates: dict[Name, Certificate] = Field(
        {}, description="lower bounds, checked against every attack on what they certify"
    )
    diagnostics: Diagnostics = Field(Diagnostics(), description="probes of every model for gradient masking")
    samples: PositiveInt | None = Field(None, description="attack and certify only the first so many test images")
    headline: dict[Norm, Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)]] = Field(
        {},
        description="by norm, the budgets, in pixels, at which the tables for a paper state accuracies; without it the "
        "budget that most attacks of the norm were run at",
    )
    examples: NonNegativeInt = Field(32, description="adversarial images kept per cell")
    allow_missing: bool = Field(
        False, description="aggregate without the cells that are missing or stale, and say so in tables and figures"
    )
    quick: dict[Any, Any] | None = Field(
        None,
        description="keys that differ in a second, smaller form NAME_quick: mappings merge key by key, lists and "
        "scalars replace, null removes a key; made by the target `quick` only",
    )

    @model_validator(mode="before")
    @classmethod
    def _transfers_from_each(cls, value: Any) -> Any:
        """Replace an attack with ``transfer_from: *`` by one per variant, at its place."""
        if not isinstance(value, Mapping) or not all(isinstance(value.get(key), Mapping) for key in _CROSSED):
            return value
        attacks: dict[Any, Any] = {}
        for name, attack in value["attacks"].items():
            if isinstance(attack, Mapping) and attack.get("transfer_from") == "*":
                made = {
                    f"{name}_from_{one}": {
                        **attack,
                        "transfer_from": one,
                        **({"title": f"{attack['title']} from {one}"} if "title" in attack else {}),
                    }
                    for one in value["variants"]
                }
            else:
                made = {name: attack}
            clash = next((one for one in made if one in attacks), None)
            refuse([(("attacks", str(name)), f"two attacks are called '{clash}'")] if clash else [])
            attacks.update(made)
        return {**value, "attacks": attacks}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if len(set(self.seeds)) != len(self.seeds):
            problems.append((("seeds",), "a seed is given twice"))
        for name, certificate in self.certificates.items():
            if not any(certificate.applies_to(variant) for variant in self.variants.values()):
                needs = CERTIFICATES.entry(certificate.certificate.name).tags["needs"]
                problems.append(
                    (("certificates", name), f"no variant has a {needs} network, so nothing can be certified")
                )
        for name, attack in self.attacks.items():
            unknown = [one for one in attack.transfer_from or () if one not in self.variants]
            told = [f"no variant '{one}'; {nearest(one, self.variants)}" for one in unknown]
            if not told and not any(attack.applies_to(variant, self.variants) for variant in self.variants):
                told = ["no other variant is left to attack"]
            problems += [(("attacks", name, "transfer_from"), message) for message in told]
            seen = [one for key, one in self.variants.items() if key in (attack.transfer_from or self.variants)]
            if seen and (problem := surrogate_problem(attack.surrogate, seen)):
                problems.append((("attacks", name, "surrogate"), problem))
            if problem := targets_problem(attack.attack, self.dataset):
                problems.append((("attacks", name, "targets"), problem))
        for name, variant in self.variants.items():
            for place, message in misfits(variant, self.training_of(name)):
                problems.append((("variants", name, *place), message))
            if problem := code_problem(variant, self.dataset):
                problems.append((("variants", name, "model", "head", "length"), problem))
        problems += [(("headline", norm), message) for norm in self.headline if (message := self._unstated(norm))]
        for kind, names in (("variants", self.variants), ("attacks", self.attacks)):
            owner: dict[str, str] = {}
            for name in names:
                if (other := owner.setdefault(spelt(name), name)) != name:
                    clash = f"the macros of tables call it as they call '{other}'; names differ in more than - and _"
                    problems.append(((kind, name), clash))
        for name in sorted(set(self.attacks) & set(self.certificates)):
            problems.append((("certificates", name), "an attack has this name already"))
        refuse(problems)
        return self

    def _unstated(self, norm: Norm) -> str:
        """Say what is wrong with the headline of a norm: budgets at which nothing is measured; empty if nothing is."""
        here = [attack for attack in self.attacks.values() if attack.norm == norm]
        if not here and not any(one.norm == norm for one in self.certificates.values()):
            return f"there is no attack and no certificate in {norm}"
        grid = self.budgets().get(norm, [])
        unknown = [value for value in self.headline[norm] if value not in grid]
        # Budgets in other units are known in pixels only when the data are.
        if not unknown or not grid or any(attack.units != "pixels" for attack in here):
            return ""
        return f"no attack is run at {unknown[0]:g}; there are {', '.join(f'{value:g}' for value in grid)}"

    def shown(self) -> dict[str, Any]:
        """Give what decides how results are shown and no result: titles and headline, those that are set."""
        kinds: dict[str, Mapping[str, Variant | Attack | Certificate]] = {
            "variants": self.variants,
            "attacks": self.attacks,
            "certificates": self.certificates,
        }
        titles = {
            kind: {name: one.title for name, one in ones.items() if one.title} for kind, ones in kinds.items() if ones
        }
        headline = {norm: list(values) for norm, values in self.headline.items()}
        shown: dict[str, Any] = {**titles, "headline": headline}
        return {key: value for key, value in shown.items() if value}

    def as_dict(self) -> dict[str, Any]:
        """Give everything the experiment says, defaults filled in, as plain values."""
        return {
            "dataset": self.dataset.as_dict(),
            "seeds": list(self.seeds),
            "samples": self.samples,
            "examples": self.examples,
            "diagnostics": self.diagnostics.model_dump(),
            "variants": {
                name: {
                    "model": variant.model.as_dict(),
                    "loss": variant.loss.as_dict(),
                    "training": self.training_of(name).as_dict(),
                }
                for name, variant in self.variants.items()
            },
            "attacks": {name: attack.as_dict() for name, attack in self.attacks.items()},
            "certificates": {name: certificate.as_dict() for name, certificate in self.certificates.items()},
        }

    def budgets(self, units: str = "pixels") -> dict[str, list[float]]:
        """Give the budgets of the bounded attacks that are in `units`, by norm, ascending, each once."""
        found: dict[str, set[float]] = {}
        for attack in self.attacks.values():
            found.setdefault(attack.norm, set()).update(attack.epsilons or () if attack.units == units else ())
        return {norm: sorted(values) for norm, values in found.items() if values}

    def training_of(self, variant: str) -> Training:
        """Merge the experiment's training with what a variant trains differently."""
        changes = self.variants[variant].training
        given = {name: getattr(changes, name) for name in changes.model_fields_set}
        return self.training.model_copy(update=given)


class Execution(Closed):
    """How and where work is done; nothing here decides a result, so nothing here makes one stale."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto", description="auto takes a GPU where one is, else the CPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of an attack's passes; auto takes bfloat16 for attacks that need only directions of gradients, "
        "where the device is fast at it and the gradients agree; every success is confirmed in float32",
    )
    attack_batch_size: PositiveInt | Literal["auto"] = Field("auto", description="images per attack batch")
    scratch: Annotated[str, StringConstraints(pattern=r"^(auto|off|[/$].*)$")] = Field(
        "auto",
        description="folder on a disk of the node's own, where files are written before they are moved to their place; "
        "auto takes $SLURM_TMPDIR or, in a job, $TMPDIR, if that is another file system; off takes none",
    )
    cluster: Cluster = Field(Cluster(), description="what jobs ask SLURM for")


class Config(Closed):
    """A configuration file."""

    experiments: dict[Name, Experiment] = Field(min_length=1, description="by name")
    execution: Execution = Field(Execution(), description="devices, batch sizes, precision")
    strict_environment: bool = Field(
        False, description="make everything again when the lock or an installed package that decides results changes"
    )

    @model_validator(mode="after")
    def _one_device_for_each_process(self) -> Self:
        several = any(one.training_of(name).gpus > 1 for one in self.experiments.values() for name in one.variants)
        if several and (self.execution.device == "mps" or ":" in self.execution.device):
            problem = f"{self.execution.device} is one device, and `training.gpus` asks for several; set auto or cuda"
            refuse([(("execution", "device"), problem)])
        return self

    @property
    def quick_forms(self) -> tuple[str, ...]:
        """The names of the experiments that are quick forms; they are made when asked for only."""
        return tuple(quick_name(name) for name, one in self.experiments.items() if one.quick is not None)

    @property
    def full_forms(self) -> tuple[str, ...]:
        """The names of all other experiments."""
        quick = self.quick_forms
        return tuple(name for name in self.experiments if name not in quick)
