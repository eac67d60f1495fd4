"""The schema of attacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gauntlet.config.base import Closed, Name, Title, inline_component
from gauntlet.config.budgets import LINF_ABOVE_1
from gauntlet.config.compatibility import attack_problems
from gauntlet.config.components import Problem, refuse
from gauntlet.config.error_texts import found_text
from gauntlet.core.errors import InputError
from gauntlet.core.norms import Norm
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt, Seed, Spec


def _as_list(value: Any) -> Any:
    """Accept one name in place of a list of one."""
    return [value] if isinstance(value, str) else value


class Attack(Closed):
    """One attack: a column of the results."""

    attack: Spec = Field(description="name of an attack; its options are further keys of this mapping")
    norm: Norm = Field(description="norm of the budget; optional for an attack of one norm")
    epsilons: tuple[PositiveFloat, ...] | None = Field(
        None, strict=False, description="budgets in pixel units of [0, 1]; required for bounded attacks only"
    )
    units: Literal["pixels", "normalized"] = Field(
        "pixels",
        description="of `epsilons`; `normalized`: times the data's standard deviation, mean over channels",
    )
    seed: Seed = Field(0, description="seed of the attack's random draws, in addition to the model's seed")
    surrogate: str | None = Field(
        None, description="view of the model that gradients are taken through; `adaptive`: what fits its output"
    )
    draws: PositiveInt = Field(
        1,
        description="passes over which the attack averages a random model's outputs and gradients; it is judged over "
        "200 others, or as many if this is more",
    )
    transfer_from: Annotated[tuple[Name, ...] | None, BeforeValidator(_as_list)] = Field(
        None,
        strict=False,
        min_length=1,
        description="variants whose models the attack sees instead of the attacked one, several as an ensemble; "
        "`*` makes one attack NAME_from_VARIANT per variant",
    )
    samples: PositiveInt | None = Field(
        None,
        description="number of test images to attack, the first of the experiment's; an attack on fewer than these has "
        "no part in worst cases; default: all of them",
    )
    title: Title | None = Field(None, description="name in tables and figures; default: the key")
    shards: PositiveInt = Field(1, description="jobs that share the samples; changes no result")

    @model_validator(mode="before")
    @classmethod
    def _check_norm(cls, value: Any) -> Any:
        """Fill in the norm of an attack that has only one, and refuse a norm that the attack does not have."""
        if not isinstance(value, Mapping) or not isinstance(value.get("attack"), Spec):
            return value
        spec: Spec = value["attack"]
        norms = list(ATTACKS.entry(spec.name).tags.get("norms", ()))
        if "norm" not in value and len(norms) == 1:
            return {**value, "norm": norms[0]}
        if "norm" not in value:
            refuse([(("norm",), f"this key is required: {spec.name} works in {', '.join(norms) or 'any norm'}")])
        if norms and value["norm"] not in norms:
            refuse(
                [
                    (
                        ("norm",),
                        f"{spec.name} does not work in {found_text(value['norm'])}; it works in {', '.join(norms)}",
                    )
                ]
            )
        return value

    # Validators of this mode run from the last to the first: this one runs before `_check_norm`.
    _inline = inline_component(ATTACKS, "attack")

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        refuse(
            [
                *self._problems_of_kind(),
                *self._problems_of_budgets(),
                *attack_problems(
                    self.attack,
                    norm=self.norm,
                    # In other units they cannot be compared with step sizes, which are in pixel units.
                    epsilons=self.epsilons if self.units == "pixels" else None,
                    draws=self.draws,
                    surrogate=self.surrogate,
                    sources=len(self.transfer_from or ()),
                ),
            ]
        )
        return self

    def _problems_of_kind(self) -> Iterable[Problem]:
        """Yield keys that the attack's kind or access excludes, or requires."""
        name, tags = self.attack.name, ATTACKS.entry(self.attack.name).tags
        if tags.get("kind") == "bounded" and not self.epsilons:
            yield ("epsilons",), f"{name} is a bounded attack and needs a list of budgets"
        elif self.epsilons == ():
            yield ("epsilons",), "the list of budgets is empty; leave it out"
        if tags.get("kind") == "minimum_norm":
            if self.epsilons is not None:
                yield ("epsilons",), f"{name} finds the smallest distance and takes no budgets"
            if self.units != "pixels":
                yield ("units",), f"{name} takes no budgets, so `units` has no effect; leave it out"
            if self.transfer_from is not None:
                problem = f"{name} stops at the decision boundary of the models it sees, which no other model shares"
                yield ("transfer_from",), f"{problem}; transfer a bounded attack"
        if self.surrogate is not None and tags.get("access") in ("scores", "none"):
            yield ("surrogate",), f"{name} takes no gradients, so a surrogate has no effect; leave it out"
        if len(set(self.transfer_from or ())) < len(self.transfer_from or ()):
            yield ("transfer_from",), "a variant is given twice"

    def _problems_of_budgets(self) -> Iterable[Problem]:
        """Yield budgets that the norm or their order excludes."""
        if self.norm == "l0" and self.units != "pixels":
            yield ("units",), "an l0 budget is a number of values, and has no units"
        if not self.epsilons:
            return
        if self.norm == "l0" and self.epsilons[0] < 1:
            yield ("epsilons",), "an l0 budget is a number of values, 1 or more"
        if self.units == "pixels" and self.norm == "linf" and self.epsilons[-1] > 1:
            yield ("epsilons",), f"{LINF_ABOVE_1}; 8 of 255 is 0.0314"
        if list(self.epsilons) != sorted(set(self.epsilons)):
            yield ("epsilons",), "the budgets must ascend, each once"

    def sources(self, variant: str, variants: Collection[str]) -> list[str]:
        """List the variants that the attack on `variant` sees instead of it, in the order of the configuration."""
        found = [source for source in self.transfer_from or () if source != variant and source in variants]
        # Every cell of a grid asks: its variants are not searched where there is no order to find.
        return found if len(found) < 2 else [source for source in variants if source in found]

    def applies_to(self, variant: str, variants: Collection[str]) -> bool:
        """Return False for a transfer from the attacked variant alone."""
        return self.transfer_from is None or bool(self.sources(variant, variants))

    def in_pixels(self, std: float, *, where: str) -> Attack:
        """Return the attack with budgets in pixel units, for data with the standard deviation `std` in all channels.

        Raises InputError that names `where` for budgets that leave the pixel range.
        """
        if self.units == "pixels" or self.epsilons is None:
            return self
        epsilons = tuple(epsilon * std for epsilon in self.epsilons)
        if self.norm == "linf" and epsilons[-1] > 1:
            remedy = f"the data's standard deviation is {std:.4g}, so choose {1 / std:.4g} or less"
            raise InputError(LINF_ABOVE_1, where=f"{where}.epsilons", remedy=remedy)
        return self.model_copy(update={"epsilons": epsilons, "units": "pixels"})

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the rows of this attack on a fixed model and fixed images."""
        # `units: pixels` is left out, so that cells from before the key existed stay fresh.
        left_out = {"attack", "shards", "title", "samples", *(["units"] if self.units == "pixels" else [])}
        plain = self.model_dump(exclude=left_out)
        plain["epsilons"] = None if self.epsilons is None else list(self.epsilons)
        plain["transfer_from"] = (
            list(self.transfer_from) if isinstance(self.transfer_from, tuple) else plain["transfer_from"]
        )
        return {**plain, "attack": self.attack.as_dict()}
