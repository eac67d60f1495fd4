"""The result files of one experiment that figures and the page read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import GridDesign
from gauntlet.reporting.aggregation.design import NO_PERTURBATION
from gauntlet.reporting.figures.facets import Facets
from gauntlet.reporting.figures.style import line_style, plain
from gauntlet.reporting.footnotes import exclusion_note


@dataclass(frozen=True)
class HistoryFile:
    """The training history of one model.

    `loss` names the training loss, `adversary` the attack that robust validation accuracy is measured under: values of
    different losses do not compare, and neither do accuracies under different attacks.
    """

    variant: str
    seed: int
    path: Path
    loss: str = ""
    adversary: str = ""


@dataclass(frozen=True)
class ExamplesFile:
    """Saved adversarial images of one attack on one model.

    The file holds `original` and `adversarial`, float32 (n, C, H, W) in [0, 1], and `index`, int64 (n,): their samples'
    rows in the evaluations.
    """

    variant: str
    seed: int
    attack: str
    path: Path


@dataclass(frozen=True)
class InspectionFile:
    """The inspection of one model: a table of arrays, see `gauntlet.robustness.inspection.arrays`."""

    variant: str
    seed: int
    path: Path


@dataclass(frozen=True)
class FigureInputs:
    """Result files of one experiment. `variants` sets order and colors; `classes` names the labels, if known.

    `titles` and `attack_titles` map variants and attacks to their printed names, where these differ, and `uncounted`
    the attacks that have no part in worst cases to the reason. `shown` are the
    variants that the configuration shows in figures, empty where it leaves the choice to the figures; `grids` are
    those that variants are of, `facet_by` the factors that the configuration names for facets, and `facets` divide
    panels that would have too many lines.
    """

    variants: tuple[str, ...]
    evaluations: Path | None = None
    summary: Path | None = None
    certificates: Path | None = None
    histories: tuple[HistoryFile, ...] = ()
    examples: tuple[ExamplesFile, ...] = ()
    classes: tuple[str, ...] = field(default=())
    attacks: Path | None = None
    diagnostics: Path | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    attack_titles: Mapping[str, str] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)
    origins: Path | None = None
    inspections: tuple[InspectionFile, ...] = ()
    comparisons: Path | None = None
    choices: Path | None = None
    effects: Path | None = None
    published: Path | None = None
    shown: tuple[str, ...] = ()
    grids: tuple[GridDesign, ...] = ()
    facet_by: tuple[str, ...] = ()
    facets: Facets | None = None

    def has(self, name: str) -> bool:
        """Return whether an input exists."""
        value = getattr(self, name)
        return value.is_file() if isinstance(value, Path) else bool(value)

    def path(self, name: str) -> Path:
        """Return the path of an input that is a single file. Raises InputError when it is missing."""
        value = getattr(self, name)
        if not isinstance(value, Path):
            raise InputError(f"there are no {name}", remedy="run the stage that makes them")
        return value

    def class_name(self, label: int) -> str:
        """Return the name of a class in one line, without control characters; its number if it has no name."""
        name = self.classes[label] if label < len(self.classes) else ""
        return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()) or str(label)

    def title(self, variant: str) -> str:
        """Return the printed name of a variant: its title, or its name if another variant has the same title."""
        title = self.titles.get(variant, variant)
        same_title = [name for name in self.variants if self.titles.get(name, name) == title]
        return title if len(same_title) == 1 else variant

    def titles_of(self, variants: Iterable[str] | None = None) -> list[str]:
        """Return the printed names of some variants, or of all."""
        return [self.title(variant) for variant in (self.variants if variants is None else variants)]

    def attack_title(self, attack: str) -> str:
        """Return the printed name of an attack."""
        return self.attack_titles.get(attack, attack)

    def has_accuracy(self, attack: str) -> bool:
        """Return whether an attack's images have a right answer: noise in place of an image has none."""
        return NO_PERTURBATION not in self.uncounted.get(attack, "")

    def exclusion_notes(self) -> list[str]:
        """Return a note for each attack that has no part in worst cases."""
        return [exclusion_note(plain(self.attack_title(name)), reason) for name, reason in self.uncounted.items()]

    def only(self, variants: Iterable[str]) -> FigureInputs:
        """Return the inputs with some of the variants alone."""
        chosen = frozenset(variants)
        return replace(
            self,
            variants=tuple(name for name in self.variants if name in chosen),
            histories=tuple(item for item in self.histories if item.variant in chosen),
            examples=tuple(item for item in self.examples if item.variant in chosen),
            inspections=tuple(item for item in self.inspections if item.variant in chosen),
        )

    def look(self, variant: str) -> dict[str, Any]:
        """Return color, line and marker of a variant."""
        return dict(self.facets.looks[variant]) if self.facets else line_style(self.variants, variant)

    def variants_by_loss(self) -> Mapping[str, tuple[str, ...]]:
        """Group the variants by their training loss."""
        return self._grouped(lambda history: history.loss)

    def variants_by_adversary(self) -> Mapping[str, tuple[str, ...]]:
        """Group the variants by the attack that their robust validation accuracy is measured under."""
        return self._grouped(lambda history: history.adversary)

    def _grouped(self, key: Callable[[HistoryFile], str]) -> Mapping[str, tuple[str, ...]]:
        groups: dict[str, dict[str, None]] = {}
        key_of = {history.variant: key(history) for history in self.histories}
        for variant in self.variants:
            if variant in key_of:
                groups.setdefault(key_of[variant], {})[variant] = None
        return {name: tuple(variants) for name, variants in groups.items()}
