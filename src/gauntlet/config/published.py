"""Numbers that the source of an experiment has published, and the quantities that they are compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gauntlet.config.base import Closed, Line
from gauntlet.config.components import Problem
from gauntlet.core.budgets import is_close
from gauntlet.core.errors import nearest
from gauntlet.registry import ATTACKS, LOSSES, NonNegativeFloat, PositiveInt

if TYPE_CHECKING:
    from gauntlet.config.schema import Experiment

CLEAN, EPOCH = "clean", "epoch"
SHARES_OF_HISTORY = ("validation_accuracy", "robust_validation_accuracy")
HISTORY_COLUMNS = (EPOCH, "kr", "validation_loss", "robust_validation_loss", *SHARES_OF_HISTORY)
"""Columns of the training history that may be published, at the kept epoch or, all but `epoch`, at any other."""


def _as_number(value: Any) -> Any:
    """Accept a number in place of a mapping with the key `value`; anything else is refused as no number."""
    return value if isinstance(value, Mapping | PublishedNumber) else {"value": value}


class PublishedNumber(Closed):
    """One published number."""

    value: float = Field(description="accuracies in percent, other quantities in their own unit")
    std: NonNegativeFloat | None = Field(None, description="published standard deviation over trainings, in its unit")
    seeds: PositiveInt | None = Field(None, description="number of trainings that the published number is a mean over")
    note: Line | None = Field(None, description="conditions of the published number, such as epoch and images")


class Published(Closed):
    """Published numbers of an experiment's source."""

    reference: Line = Field(description="title of the source, or authors, year and number")
    numbers: dict[str, dict[str, Annotated[PublishedNumber, BeforeValidator(_as_number)]]] = Field(
        min_length=1,
        description="by variant and quantity: `clean`, an attack (`NAME`, or `NAME@BUDGET` in the attack's units; of "
        "one that replaces images, such as `rubbish`, the share of them with confidence below 0.5), a certificate "
        "(`NAME`, or `NAME@RADIUS`), or a column of the training history at the kept epoch (`NAME`, or "
        f"`NAME@EPOCH` at another): {', '.join(f'`{name}`' for name in HISTORY_COLUMNS)}",
    )


@dataclass(frozen=True)
class Quantity:
    """A published quantity: `name` is an attack, a certificate or a column; `budget` is None if none is written.

    The budget of an attack is in the attack's units, the radius of a certificate in pixel units. Images of an attack
    that replaces them have no accuracy: its kind is "low_confidence", without a budget. `epoch` is that of a column of
    the training history, counted from 1; None is the kept epoch.
    """

    kind: Literal["clean", "history", "attack", "low_confidence", "certificate"]
    name: str
    budget: float | None = None
    epoch: int | None = None

    @property
    def is_share(self) -> bool:
        """True for accuracies and other shares, which are stated in percent."""
        return self.kind != "history" or self.name in SHARES_OF_HISTORY


def parse_quantity(text: str, experiment: Experiment) -> Quantity | str:
    """Return the quantity of a key below a variant, or a message on what is wrong."""
    name, separator, budget_text = text.partition("@")
    attack, is_certificate = experiment.attacks.get(name), name in experiment.certificates
    if name == CLEAN:
        return f"{name} has no budget; write {name}" if separator else Quantity("clean", name)
    if name in HISTORY_COLUMNS:
        return _at_epoch(name, budget_text) if separator else Quantity("history", name)
    if attack is None and not is_certificate:
        known = [CLEAN, *HISTORY_COLUMNS, *experiment.attacks, *experiment.certificates]
        return f"no quantity '{name}'; {nearest(name, known)}"
    if attack and ATTACKS.entry(attack.attack.name).tags.get("access") == "none":
        return f"{name} has no budget; write {name}" if separator else Quantity("low_confidence", name)
    try:
        budget = float(budget_text) if separator else None
    except ValueError:
        return f"'{budget_text}' is no number; write {name}@{'RADIUS' if is_certificate else 'BUDGET'}"
    if budget is not None and not 0 <= budget < inf:
        return f"'{budget_text}' is no finite number from 0 on; write {name}@{'RADIUS' if is_certificate else 'BUDGET'}"
    if attack is None:
        return Quantity("certificate", name, budget)
    if budget is not None and attack.epsilons:
        same = [value for value in attack.epsilons if is_close(value, budget)]
        if not same:
            known_budgets = ", ".join(f"{value:g}" for value in attack.epsilons)
            return f"{name} is not run at {budget:g}; its budgets are {known_budgets}"
        budget = same[0]
    only = attack.epsilons[0] if attack.epsilons and len(attack.epsilons) == 1 else None
    return Quantity("attack", name, only if budget is None else budget)


def _at_epoch(column: str, epoch_text: str) -> Quantity | str:
    """Return a column of the training history at a stated epoch, or a message on what is wrong."""
    if column == EPOCH:
        return f"{column} is the kept one, and is stated at no other; write {column}"
    if not re.fullmatch(r"[1-9][0-9]*", epoch_text):
        return f"'{epoch_text}' is no epoch, which are counted from 1; write {column}@EPOCH"
    return Quantity("history", column, epoch=int(epoch_text))


def published_problems(experiment: Experiment) -> Iterator[Problem]:
    """Yield published numbers of unknown variants or quantities, or of what is not measured."""
    for variant, numbers in experiment.published.numbers.items() if experiment.published else ():
        place = ("published", "numbers", variant)
        if variant not in experiment.measured:
            candidate = "a candidate, which is not measured" if variant in experiment.variants else None
            yield place, f"'{variant}' is {candidate}" if candidate else _unknown_variant(variant, experiment)
            continue
        for text, number in numbers.items():
            quantity = parse_quantity(text, experiment)
            problem = (
                quantity
                if isinstance(quantity, str)
                else _unmeasured(quantity, variant, experiment) or _open_budget(quantity, experiment)
            )
            if problem is None and isinstance(quantity, Quantity) and quantity.is_share:
                outside = not 0 <= number.value <= 100
                problem = f"expected a share in percent, 0 to 100, got {number.value:g}" if outside else None
            if problem:
                yield (*place, text), problem


def _unknown_variant(variant: str, experiment: Experiment) -> str:
    return f"no variant '{variant}'; {nearest(variant, experiment.measured)}"


def _unmeasured(quantity: Quantity, variant: str, experiment: Experiment) -> str | None:
    """Return a message if a quantity is never measured on a variant; None if it is."""
    if quantity.kind == "clean":
        none = "no attack, and clean accuracy is measured with attacks; use validation_accuracy"
        return None if experiment.attacks else f"the experiment has {none}"
    if quantity.kind in ("attack", "low_confidence"):
        applies = experiment.attacks[quantity.name].applies_to(variant, experiment.measured)
        return None if applies else f"{quantity.name} is not run on {variant}"
    if quantity.kind == "certificate":
        applies = experiment.can_certify(experiment.certificates[quantity.name], variant)
        return None if applies else f"{variant} has no certificate {quantity.name}"
    for name, network in experiment.possible_networks(variant).items():
        if network.is_adopted:
            return f"{variant} is adopted and has no training history"
        training = experiment.training_of(name)
        if quantity.epoch is not None and quantity.epoch > training.epochs:
            return f"{name} is trained for {training.epochs} epochs; choose one of them"
        if quantity.name.startswith("robust_") and not (training.adversary or training.validation_adversary):
            return f"{variant} has no adversary during validation; set training.validation_adversary"
        loss = network.loss.name
        if quantity.name == "kr" and ":" not in loss and not LOSSES.entry(loss).tags.get("kr"):
            return f"{variant} is trained with {loss}, which has no KR term"
    return None


def _open_budget(quantity: Quantity, experiment: Experiment) -> str | None:
    """Return a message if neither the quantity nor the headline says at which budget it is measured; else None."""
    if quantity.kind not in ("attack", "certificate") or quantity.budget is not None:
        return None
    attack = experiment.attacks.get(quantity.name)
    norm = attack.norm if attack else experiment.certificates[quantity.name].norm
    remedy = f"write {quantity.name}@{'BUDGET' if attack else 'RADIUS'}"
    headline = next((values for name, values in experiment.headline.items() if name == norm), ())
    if len(headline) > 1:
        return f"{norm} has several headline budgets; {remedy}"
    in_norm = [other for other in experiment.attacks.values() if other.norm == norm]
    if not headline:
        # The default is then a distance or a radius in the middle of the measured ones.
        has_budgets = any(other.epsilons for other in in_norm)
        return None if has_budgets else f"{norm} has no headline budget, and no attack with budgets; {remedy}"
    # Budgets in other units are known in pixels only when the data are.
    if attack and attack.epsilons and all(other.units == "pixels" for other in in_norm):
        is_run = any(is_close(value, headline[0]) for value in attack.epsilons)
        return None if is_run else f"{quantity.name} is not run at the headline budget, {headline[0]:g}; {remedy}"
    return None


def published_quantities(experiment: Experiment) -> Mapping[tuple[str, str], tuple[Quantity, PublishedNumber]]:
    """Map each variant and quantity as written to the quantity and its published number; the experiment is valid."""
    found = {}
    for variant, numbers in experiment.published.numbers.items() if experiment.published else ():
        for text, number in numbers.items():
            quantity = parse_quantity(text, experiment)
            if isinstance(quantity, Quantity):
                found[variant, text] = quantity, number
    return found
