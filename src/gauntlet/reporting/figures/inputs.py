"""The files that figures and the report read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gauntlet.core.errors import InputError


@dataclass(frozen=True)
class History:
    """The training history of one model.

    `loss` names what it was trained with, `opponent` what its accuracy under attack is measured under: losses of two
    kinds do not compare, and neither do accuracies under two attacks.
    """

    variant: str
    seed: int
    path: Path
    loss: str = ""
    opponent: str = ""


@dataclass(frozen=True)
class Examples:
    """Adversarial images kept of one attack on one model.

    The file holds `original` and `adversarial`, float32 (n, C, H, W) in [0, 1], and `index`, int64 (n,): the rows of
    the evaluations that they belong to.
    """

    variant: str
    seed: int
    attack: str
    path: Path


@dataclass(frozen=True)
class Inspection:
    """What inspection shows of one model: a table of arrays, see `gauntlet.robustness.inspection.arrays`."""

    variant: str
    seed: int
    path: Path


@dataclass(frozen=True)
class Inputs:
    """What an experiment left behind. `variants` decides order and colours; `classes` names the labels, if known.

    `titles` and `attack_titles` say what variants and attacks are called in print, where not by their names.
    """

    variants: tuple[str, ...]
    evaluations: Path | None = None
    summary: Path | None = None
    certificates: Path | None = None
    histories: tuple[History, ...] = ()
    examples: tuple[Examples, ...] = ()
    classes: tuple[str, ...] = field(default=())
    attacks: Path | None = None
    diagnostics: Path | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    attack_titles: Mapping[str, str] = field(default_factory=dict)
    origins: Path | None = None
    inspections: tuple[Inspection, ...] = ()

    def has(self, name: str) -> bool:
        """Tell whether an input is there."""
        value = getattr(self, name)
        return value.is_file() if isinstance(value, Path) else bool(value)

    def path(self, name: str) -> Path:
        """Give an input that is one file. Raises InputError when it is not there."""
        value = getattr(self, name)
        if not isinstance(value, Path):
            raise InputError(f"there are no {name}", remedy="run the stage that makes them")
        return value

    def class_name(self, label: int) -> str:
        """Name a class, by its number where it has no name."""
        return self.classes[label] if label < len(self.classes) else str(label)

    def title(self, variant: str) -> str:
        """Say what a variant is called in print: by its name where another has the same title."""
        title = self.titles.get(variant, variant)
        alike = [name for name in self.variants if self.titles.get(name, name) == title]
        return title if len(alike) == 1 else variant

    def shown(self, variants: Iterable[str] | None = None) -> list[str]:
        """Give what some variants, or all, are called in print."""
        return [self.title(variant) for variant in (self.variants if variants is None else variants)]

    def attack_title(self, attack: str) -> str:
        """Say what an attack is called in print."""
        return self.attack_titles.get(attack, attack)

    def losses(self) -> Mapping[str, tuple[str, ...]]:
        """Group the variants by the loss they were trained with."""
        return self._grouped(lambda history: history.loss)

    def opponents(self) -> Mapping[str, tuple[str, ...]]:
        """Group the variants by what their accuracy under attack is measured under."""
        return self._grouped(lambda history: history.opponent)

    def _grouped(self, key: Callable[[History], str]) -> Mapping[str, tuple[str, ...]]:
        groups: dict[str, dict[str, None]] = {}
        key_of = {history.variant: key(history) for history in self.histories}
        for variant in self.variants:
            if variant in key_of:
                groups.setdefault(key_of[variant], {})[variant] = None
        return {name: tuple(variants) for name, variants in groups.items()}
