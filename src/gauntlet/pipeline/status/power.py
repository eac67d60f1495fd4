"""Text of `gauntlet check --power`: the training seeds that experiments need to show a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.status.formatting import align_columns
from gauntlet.reporting.aggregation.design import design_from_config, design_from_metadata
from gauntlet.reporting.seeds_needed import SeedsNeeded, plan_seeds
from gauntlet.reporting.stats.power import MAX_SEEDS, POWER

_HEADINGS = ("outcome", "seeds", "std", "one pair", "more", "every pair", "more")


def power_text(config: Config, points: float) -> str:
    """Return the seeds that each experiment needs to show a difference of accuracies in percentage points.

    Raises InputError if `points` is not in (0, 100].
    """
    if not 0 < points <= 100:
        problem = f"--power is a difference of accuracies in percentage points, not {points:g}"
        raise InputError(problem, remedy="name one above 0 and at most 100, such as --power 2")
    return "\n".join(line for name in config.full_forms for line in _lines(config, name, points))


def _lines(config: Config, name: str, points: float) -> Iterator[str]:
    file = paths.comparisons(name)
    planned: list[SeedsNeeded] = []
    if file.is_file():
        design = design_from_config(name, config.experiments[name])
        # Budgets of results are in pixel units, those of the configuration may be in others.
        measured = design_from_metadata(read_metadata(file))
        design = replace(design, attacks=measured.attacks) if measured else design
        planned = plan_seeds(read_table(file), design, points / 100)
    if not planned:
        yield f"{name}: no two variants have results of two seeds or more, from which the spread could be estimated"
        return
    yield f"{name}: training seeds that show a difference of {points:g} points with probability {POWER:.0%}"
    yield align_columns([_HEADINGS, *map(_row, planned)])
    yield "std: of the difference of two variants over seeds, in points, the median of all pairs; upper limit at 80 %"
    yield "one pair: seeds for a paired t-test at 5 %; every pair: for the largest std, corrected for all pairs (Holm)"
    yield "in brackets: for the upper limit, since few seeds estimate a std badly"


def _row(row: SeedsNeeded) -> tuple[str, ...]:
    return (
        row.outcome,
        str(row.seeds),
        f"{100 * row.std:.2f} ({100 * row.std_limit:.2f})",
        *_counts(row.seeds, row.needed, row.needed_at_limit),
        *_counts(row.seeds, row.needed_by_all, row.needed_by_all_at_limit),
    )


def _counts(finished: int, needed: int | None, at_limit: int | None) -> tuple[str, str]:
    total, more = (
        [f"> {MAX_SEEDS}" if value is None else str(max(value - done, 0)) for value in (needed, at_limit)]
        for done in (0, finished)
    )
    return f"{total[0]} ({total[1]})", f"{more[0]} ({more[1]})"
