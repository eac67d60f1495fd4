"""What an experiment set out to measure, carried inside its results: they are read without the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gauntlet.errors import InputError
from gauntlet.files import canonical_json

if TYPE_CHECKING:
    from gauntlet.config.schema import Experiment

PLAN_KEY = "gauntlet.plan"


@dataclass(frozen=True)
class PlannedAttack:
    """A column of the results: `epsilons` is the grid of a bounded attack, None where distances are measured."""

    name: str
    norm: str
    epsilons: tuple[float, ...] | None


@dataclass(frozen=True)
class Plan:
    """The grid of one experiment, in the order in which tables and figures show it."""

    experiment: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    attacks: tuple[PlannedAttack, ...]

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms in use, in order of first appearance."""
        return tuple(dict.fromkeys(attack.norm for attack in self.attacks))

    def attacks_in(self, norm: str) -> tuple[PlannedAttack, ...]:
        """The attacks that measure their budget in `norm`."""
        return tuple(attack for attack in self.attacks if attack.norm == norm)

    def cells(self) -> Iterator[tuple[str, int, str]]:
        """List every planned (variant, seed, attack)."""
        for variant in self.variants:
            for seed in self.seeds:
                for attack in self.attacks:
                    yield variant, seed, attack.name

    def metadata(self) -> dict[str, str]:
        """Give the entry that a results file carries."""
        return {PLAN_KEY: canonical_json(asdict(self))}


def plan_of(name: str, experiment: Experiment) -> Plan:
    """Read the plan of an experiment from its configuration."""
    attacks = (PlannedAttack(key, attack.norm, attack.epsilons) for key, attack in experiment.attacks.items())
    return Plan(name, tuple(experiment.variants), tuple(experiment.seeds), tuple(attacks))


def plan_from(metadata: Mapping[str, str]) -> Plan | None:
    """Rebuild the plan that a file's metadata holds; None where it holds none.

    Raises InputError when what it holds is no plan.
    """
    if PLAN_KEY not in metadata:
        return None
    try:
        plain: dict[str, Any] = json.loads(metadata[PLAN_KEY])
        attacks = tuple(
            PlannedAttack(item["name"], item["norm"], item["epsilons"] and tuple(item["epsilons"]))
            for item in plain["attacks"]
        )
        return Plan(plain["experiment"], tuple(plain["variants"]), tuple(plain["seeds"]), attacks)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the file's plan cannot be read", remedy="aggregate again") from error
