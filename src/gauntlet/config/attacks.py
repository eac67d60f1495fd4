"""The part of a configuration that says what models are put through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from gauntlet.config.base import Closed, Name, Title, flattened
from gauntlet.config.compatibility import attack_problems
from gauntlet.config.components import refuse
from gauntlet.core.errors import InputError
from gauntlet.core.norms import Norm
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt, Seed, Spec

_NO_BUDGET = "pixels are in [0, 1], so a budget above 1 in linf is none"


def _listed(value: Any) -> Any:
    """Let one name stand for a list of one."""
    return [value] if isinstance(value, str) else value


class Attack(Closed):
    """One attack: a column of the results."""

    attack: Spec = Field(description="an attack, by `name`; its options stand beside this key")
    norm: Norm = Field(description="the norm that measures the budget; may be left out where the attack has one only")
    epsilons: tuple[PositiveFloat, ...] | None = Field(
        None, strict=False, description="budgets in pixel units of [0, 1]; required for bounded attacks only"
    )
    units: Literal["pixels", "normalized"] = Field(
        "pixels",
        description="of `epsilons`; `normalized`: times the data's standard deviation, mean over channels",
    )
    seed: Seed = Field(0, description="address of the attack's own draws, beside the model's seed")
    surrogate: str | None = Field(
        None, description="view of the model that gradients are taken through; `adaptive`: what fits its output"
    )
    draws: PositiveInt = Field(
        1, description="passes that a random model's outputs and gradients are means over; 1 for all others"
    )
    transfer_from: Annotated[tuple[Name, ...] | None, BeforeValidator(_listed)] = Field(
        None,
        strict=False,
        min_length=1,
        description="variants whose models the attack sees instead of the one it attacks, several as an ensemble; "
        "`*` makes one attack NAME_from_VARIANT per variant",
    )
    title: Title | None = Field(None, description="what it is called in print; without it, by its name")
    shards: PositiveInt = Field(1, description="jobs that the samples are split into; decides no result")

    @model_validator(mode="before")
    @classmethod
    def _only_norm(cls, value: Any) -> Any:
        """Fill in the norm where the attack has one only, and refuse one that it does not have."""
        if not isinstance(value, Mapping) or not isinstance(value.get("attack"), Spec):
            return value
        spec: Spec = value["attack"]
        norms = list(ATTACKS.entry(spec.name).tags.get("norms", ()))
        if "norm" not in value and len(norms) == 1:
            return {**value, "norm": norms[0]}
        if "norm" not in value:
            refuse([(("norm",), f"this key is required: {spec.name} works in {', '.join(norms) or 'any norm'}")])
        if norms and value["norm"] not in norms:
            refuse([(("norm",), f"{spec.name} does not work in {value['norm']!r}; it works in {', '.join(norms)}")])
        return value

    # Validators of this mode run from the last to the first: this one runs before `_only_norm`.
    _separate = flattened(ATTACKS, "attack")

    @model_validator(mode="after")
    def _epsilons_fit_kind(self) -> Self:
        kind = ATTACKS.entry(self.attack.name).tags.get("kind")
        if kind == "bounded" and not self.epsilons:
            refuse([(("epsilons",), f"{self.attack.name} is a bounded attack and needs a list of budgets")])
        if kind == "minimum_norm" and self.epsilons is not None:
            refuse([(("epsilons",), f"{self.attack.name} looks for the smallest distance and takes no budgets")])
        if kind == "minimum_norm" and self.units != "pixels":
            refuse([(("units",), f"{self.attack.name} takes no budgets, so there is nothing to give units to")])
        if self.norm == "l0" and self.units != "pixels":
            refuse([(("units",), "in l0 a budget is a number of values, and has no units")])
        if kind == "minimum_norm" and self.transfer_from is not None:
            problem = f"{self.attack.name} stops at the border of the models it sees, which is no other model's"
            refuse([(("transfer_from",), f"{problem}; transfer a bounded attack")])
        if self.surrogate is not None and ATTACKS.entry(self.attack.name).tags.get("access") in ("scores", "none"):
            refuse([(("surrogate",), f"{self.attack.name} takes no gradients, so there is nothing to take elsewhere")])
        if len(set(self.transfer_from or ())) < len(self.transfer_from or ()):
            refuse([(("transfer_from",), "a variant is given twice")])
        if self.norm == "l0" and self.epsilons is not None and self.epsilons[0] < 1:
            refuse([(("epsilons",), "in l0 a budget is a number of values, 1 or more")])
        if self.units == "pixels" and self.norm == "linf" and self.epsilons is not None and self.epsilons[-1] > 1:
            refuse([(("epsilons",), f"{_NO_BUDGET}; 8 of 255 is 0.0314")])
        if self.epsilons is not None and list(self.epsilons) != sorted(set(self.epsilons)):
            refuse([(("epsilons",), "the budgets must ascend, each once")])
        refuse(attack_problems(self.attack, norm=self.norm, epsilons=self.epsilons, draws=self.draws))
        return self

    def sources(self, variant: str, variants: Iterable[str]) -> list[str]:
        """List the variants that the attack on `variant` sees instead of it, in the order of the configuration."""
        return [one for one in variants if one in (self.transfer_from or ()) and one != variant]

    def applies_to(self, variant: str, variants: Iterable[str]) -> bool:
        """Tell whether there is anything to run on a variant: no transfer comes from the attacked variant alone."""
        return self.transfer_from is None or bool(self.sources(variant, variants))

    def in_pixels(self, std: float, *, where: str) -> Attack:
        """Give the attack with budgets in pixels of data with the standard deviation `std`, one for all channels.

        Raises InputError that names `where` for budgets that leave the pixel range.
        """
        if self.units == "pixels" or self.epsilons is None:
            return self
        epsilons = tuple(epsilon * std for epsilon in self.epsilons)
        if self.norm == "linf" and epsilons[-1] > 1:
            remedy = f"the data's standard deviation is {std:.4g}, so choose {1 / std:.4g} or less"
            raise InputError(_NO_BUDGET, where=f"{where}.epsilons", remedy=remedy)
        return self.model_copy(update={"epsilons": epsilons, "units": "pixels"})

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the rows of this attack on a given model."""
        # What stands in pixels says nothing of units, as it did before there were others.
        plain = self.model_dump(exclude={"attack", "shards", "title", *(["units"] if self.units == "pixels" else [])})
        plain["epsilons"] = None if self.epsilons is None else list(self.epsilons)
        plain["transfer_from"] = (
            list(self.transfer_from) if isinstance(self.transfer_from, tuple) else plain["transfer_from"]
        )
        return {**plain, "attack": self.attack.as_dict()}
