"""What an experiment set out to measure, carried inside its results: they are read without the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gauntlet.errors import InputError
from gauntlet.files import canonical_json
from gauntlet.registry import ATTACKS

if TYPE_CHECKING:
    from gauntlet.config.schema import Experiment

PLAN_KEY = "gauntlet.plan"


@dataclass(frozen=True)
class PlannedAttack:
    """A column of the results: `epsilons` is the grid of a bounded attack, None where distances are measured.

    `without` names the variants that it is not run on: a transfer has no cell on the variant that it comes from.
    `maximises` names what an attack maximises beyond fooling the model, such as confidence in a wrong class. `counts`
    is false where its images are no perturbations, so that it has no part in a worst case.
    """

    name: str
    norm: str
    epsilons: tuple[float, ...] | None
    without: tuple[str, ...] = ()
    maximises: str | None = None
    counts: bool = True


@dataclass(frozen=True)
class PlannedCertificate:
    """A certificate of some variants.

    `certifies` is "model", or names the classifier made from the model that the radii are about.
    """

    name: str
    norm: str
    certifies: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The grid of one experiment, in the order in which tables and figures show it."""

    experiment: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    attacks: tuple[PlannedAttack, ...]
    certificates: tuple[PlannedCertificate, ...] = ()

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms in use, in order of first appearance."""
        return tuple(dict.fromkeys(attack.norm for attack in self.attacks))

    def attacks_in(self, norm: str) -> tuple[PlannedAttack, ...]:
        """The attacks that measure their budget in `norm`."""
        return tuple(attack for attack in self.attacks if attack.norm == norm)

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
        return {PLAN_KEY: canonical_json(asdict(self))}


def plan_of(name: str, experiment: Experiment) -> Plan:
    """Read the plan of an experiment from its configuration."""
    variants = tuple(experiment.variants)
    attacks = (
        PlannedAttack(
            key,
            attack.norm,
            attack.epsilons,
            tuple(one for one in variants if not attack.applies_to(one, variants)),
            ATTACKS.entry(attack.attack.name).tags.get("maximises"),
            ATTACKS.entry(attack.attack.name).tags.get("access") != "none",
        )
        for key, attack in experiment.attacks.items()
    )
    certificates = (
        PlannedCertificate(
            key,
            one.norm,
            one.certifies,
            tuple(variant for variant, settings in experiment.variants.items() if one.applies_to(settings)),
        )
        for key, one in experiment.certificates.items()
    )
    return Plan(name, variants, tuple(experiment.seeds), tuple(attacks), tuple(certificates))


def plan_from(metadata: Mapping[str, str]) -> Plan | None:
    """Rebuild the plan that a file's metadata holds; None where it holds none.

    Raises InputError when what it holds is no plan.
    """
    if PLAN_KEY not in metadata:
        return None
    try:
        plain: dict[str, Any] = json.loads(metadata[PLAN_KEY])
        attacks = tuple(
            PlannedAttack(
                item["name"],
                item["norm"],
                item["epsilons"] and tuple(item["epsilons"]),
                tuple(item.get("without", ())),
                item.get("maximises"),
                item.get("counts", True),
            )
            for item in plain["attacks"]
        )
        certificates = tuple(
            PlannedCertificate(item["name"], item["norm"], item["certifies"], tuple(item["variants"]))
            for item in plain["certificates"]
        )
        return Plan(plain["experiment"], tuple(plain["variants"]), tuple(plain["seeds"]), attacks, certificates)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the file's plan cannot be read", remedy="aggregate again") from error
