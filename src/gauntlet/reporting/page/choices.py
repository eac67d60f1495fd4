"""The candidates of chosen variants on the page, with their validation figures and the reason of each choice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gauntlet.core.parquet import read_table
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.formatting import percent_text

ALL_SEEDS = "all_seeds"


@dataclass(frozen=True)
class CandidateRow:
    """A candidate: its figure for each seed, the mean over seeds if this decided, and the seeds it was chosen for.

    Each of `figures` is the text, and whether the candidate was chosen for this seed.
    """

    name: str
    settings: str
    figures: tuple[tuple[str, bool], ...]
    mean: str
    chosen: str
    is_best: bool


@dataclass(frozen=True)
class ChoiceSection:
    """The choice of one variant: `by` is the figure in words, `reasons` has a sentence per choice that was made."""

    variant: str
    by: str
    best: str
    is_over_seeds: bool
    has_settings: bool
    seeds: tuple[int, ...]
    rows: tuple[CandidateRow, ...]
    reasons: tuple[str, ...]


def read_choices(inputs: FigureInputs) -> list[ChoiceSection]:
    """Read the choices of an experiment, in the order of the configuration; empty if nothing was chosen.

    Raises InputError when the file is damaged.
    """
    table = read_table(inputs.path("choices")).to_pylist() if inputs.has("choices") else []
    variants = dict.fromkeys(row["variant"] for row in table)
    return [_section(variant, [row for row in table if row["variant"] == variant]) for variant in variants]


def _section(variant: str, rows: Sequence[Mapping[str, Any]]) -> ChoiceSection:
    by, is_over_seeds = rows[0]["by"], rows[0]["over"] == ALL_SEEDS
    seeds = tuple(dict.fromkeys(row["seed"] for row in rows))
    by_seed = {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}
    return ChoiceSection(
        variant=variant,
        by=by.replace("_", " "),
        best="lowest" if by == "validation_loss" else "highest",
        is_over_seeds=is_over_seeds,
        has_settings=any(row["settings"] is not None for row in rows),
        seeds=seeds,
        rows=tuple(_candidates(rows, seeds, by)),
        reasons=tuple(
            f"{'All seeds' if is_over_seeds else f'Seed {seed}'}: {_reason(by_seed[seed], by)}"
            for seed in (seeds[:1] if is_over_seeds else seeds)
        ),
    )


def _candidates(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], by: str) -> Iterator[CandidateRow]:
    for name in dict.fromkeys(row["candidate"] for row in rows):
        of_seed = {row["seed"]: row for row in rows if row["candidate"] == name}
        chosen = [seed for seed in seeds if seed in of_seed and of_seed[seed]["chosen"]]
        yield CandidateRow(
            name,
            _settings_text(next(iter(of_seed.values()))["settings"]),
            tuple((_text(of_seed[seed][by] if seed in of_seed else None, by), seed in chosen) for seed in seeds),
            _text(next(iter(of_seed.values()))["score"], by),
            "all seeds" if len(chosen) == len(seeds) > 1 else ", ".join(f"seed {seed}" for seed in chosen),
            bool(chosen) and len(chosen) == len(seeds),
        )


def _reason(rows: Sequence[Mapping[str, Any]], by: str) -> str:
    """Return what decided one choice: the best score against the next one, or the order among equals."""
    best = next(row for row in rows if row["chosen"])
    others = [row for row in rows if row is not best and row["score"] is not None]
    text = f"{best['candidate']}, {_text(best['score'], by)}"
    if equals := [row["candidate"] for row in others if row["score"] == best["score"]]:
        return f"{text}, as {', '.join(equals)}; the first in the list of candidates is taken"
    if not others:
        return f"{text}; no other candidate has a finite figure" if len(rows) > 1 else f"{text}; the only candidate"
    closest = min(others, key=lambda row: abs(row["score"] - best["score"]))
    return f"{text} against {_text(closest['score'], by)} of {closest['candidate']}"


def _settings_text(settings: str | None) -> str:
    """Return the drawn settings of a candidate in one line."""
    values = json.loads(settings) if settings else {}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _text(value: float | None, by: str) -> str:
    """Return a loss with four significant digits, an accuracy in percent; a dash if there is none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if by == "validation_loss" else f"{percent_text(value, digits=2)} %"
