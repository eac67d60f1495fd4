"""The words and digits of a table, the same in every format."""

from __future__ import annotations

from dataclasses import asdict

from gauntlet.reporting.footnotes import flagged, flags_note
from gauntlet.reporting.formatting import budget_text
from gauntlet.reporting.tables.content import Cell, Column, Content

MISSING, NOT_APPLICABLE = "—", "n/a"


def mean(cell: Cell) -> str:
    """Write a number in percent, or say why there is none."""
    if not cell.applies:
        return NOT_APPLICABLE
    return MISSING if cell.accuracy is None else f"{100 * cell.accuracy:.1f}"


def spread(cell: Cell) -> str:
    """Write half the t-interval over training seeds in percent; empty where there is none."""
    if cell.t_low is None or cell.t_high is None:
        return ""
    return f"{50 * (cell.t_high - cell.t_low):.1f}"


def interval(cell: Cell) -> str:
    """Write what stands beside a number: ± half the t-interval, with one training seed the Wilson interval."""
    if cell.accuracy is None:
        return ""
    if told := spread(cell):
        return f"± {told}"
    return f"[{100 * (cell.wilson_low or 0):.1f}, {100 * (cell.wilson_high or 0):.1f}]"


def flags(cell: Cell) -> str:
    """Give the marks of a number that leaves something out or is in doubt."""
    return flagged([asdict(cell)]) if cell.applies else ""


def budget(column: Column) -> str:
    """Write the budget of a column; empty where it has none."""
    if column.norm is None:
        return ""
    return f"{'r' if column.measure == 'certified' else 'ε'} = {budget_text(column.epsilon)}"


def notes(content: Content) -> list[str]:
    """Say what the numbers are, what bold and marks mean, and what is not there."""
    cells = list(content.cells.values())
    measured = [cell for cell in cells if cell.accuracy is not None]
    if not measured:
        return ["Nothing was measured."]
    several = [cell for cell in measured if spread(cell)]
    seeds = sorted({cell.seeds for cell in several})
    told = ["Accuracy in per cent; ε and r in pixel units of [0, 1]."]
    if several:
        told.append(f"±: 95 % t-interval over {_span(seeds)} training seeds.")
    if len(several) < len(measured):
        told.append("[low, high]: 95 % Wilson interval over samples, of one training seed.")
    if any(cell.attack_seeds > 1 for cell in measured):
        draws = sorted({cell.attack_seeds for cell in measured if cell.attack_seeds > 1})
        told.append(f"Attacks with {_span(draws)} seeds: their mean is one value per training seed.")
    if any(column.is_worst_case for column in content.columns):
        told.append("Worst case: no attack of the norm, of those run, fools the sample within ε.")
    if len(content.design.variants) > 1:
        told.append(
            "Bold: above every other variant on the same samples and seeds, each difference significant at 0.05"
            " (McNemar's exact test with the sample as unit; Holm, over all pairs of the column), and not ‡."
            " The test is of these trained models; how far trainings differ, ± says."
        )
    told += [f"{note}." for note in dict.fromkeys(column.note for column in content.columns) if note]
    marks = flags_note([asdict(cell) for cell in cells if cell.applies])
    told += [f"{words[0].upper()}{words[1:]}." for words in marks]
    if any(cell.applies and cell.flags is None for cell in cells):
        told.append("Under attack, a number that was not diagnosed is not bold.")
    if any(cell.applies and cell.accuracy is None for cell in cells):
        told.append(f"{MISSING}: every cell is missing.")
    if not all(cell.applies for cell in cells):
        told.append(f"{NOT_APPLICABLE}: not for this variant.")
    if content.left_out:
        told.append(f"Run at other budgets only: {', '.join(content.left_out)}.")
    return told


def _span(values: list[int]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
