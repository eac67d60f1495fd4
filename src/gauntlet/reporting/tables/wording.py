"""Words and digits of a table, the same in every format."""

from __future__ import annotations

from dataclasses import asdict

from gauntlet.core.norms import NORM_TEXT
from gauntlet.reporting.footnotes import footnote_marks, footnotes, single_loss_note
from gauntlet.reporting.formatting import budget_text, percent_text, units_text
from gauntlet.reporting.tables.cells import Column, TableCell, TableContent

MISSING, NOT_APPLICABLE = "—", "n/a"


def accuracy_text(cell: TableCell) -> str:
    """Return the accuracy in percent, or the sign for a missing or inapplicable number."""
    if not cell.applies:
        return NOT_APPLICABLE
    return MISSING if cell.accuracy is None else percent_text(cell.accuracy)


def spread_text(cell: TableCell) -> str:
    """Return half the width of the t-interval over training seeds in percent; empty where there is no interval."""
    if cell.t_low is None or cell.t_high is None:
        return ""
    return percent_text((cell.t_high - cell.t_low) / 2)


def interval_text(cell: TableCell) -> str:
    """Return ± half the width of the t-interval, or with one training seed, or equal ones, the Wilson interval."""
    if cell.accuracy is None:
        return ""
    if spread := spread_text(cell):
        return f"± {spread}"
    return f"[{100 * (cell.wilson_low or 0):.1f}, {100 * (cell.wilson_high or 0):.1f}]"


def marks_text(cell: TableCell) -> str:
    """Return the footnote marks of a number."""
    return footnote_marks([asdict(cell)]) if cell.applies else ""


def column_budget_text(column: Column) -> str:
    """Return the budget or radius of a column; empty for clean accuracy."""
    if column.norm is None:
        return ""
    return f"{'r' if column.measure == 'certified' else 'ε'} = {budget_text(column.epsilon)}"


def column_head(column: Column) -> str:
    """Return the heading of a column in one line: norm, title, budget."""
    norm = NORM_TEXT.get(column.norm, column.norm) if column.norm else ""
    kind = "certified" if column.measure == "certified" else ""
    return " ".join(filter(None, (norm, column.title, kind, column_budget_text(column))))


def table_notes(content: TableContent) -> list[str]:
    """Return the notes below a table: units, intervals, bold numbers, marks, and what is missing."""
    cells = list(content.cells.values())
    measured = [cell for cell in cells if cell.accuracy is not None]
    if not measured:
        return ["Nothing was measured."]
    planned = [cell for cell in cells if cell.applies]
    units = units_text(column.norm for column in content.columns if column.norm)
    notes = [f"Accuracy in percent; ε and r in {units}.", *_interval_notes(measured)]
    if any(column.is_worst_case for column in content.columns):
        notes.append("Worst case: no attack of the norm, of those run, fools the sample within ε.")
    if len(content.design.variants) > 1:
        notes.append(
            "Bold: above every other variant, each difference significant at 0.05 over trainings (t-test paired by"
            " training seed; never with one seed) and on the same samples (McNemar's exact test with the sample as"
            " unit), each with Holm's adjustment over all pairs of the column, and not ‡."
        )
    notes += [f"{note}." for note in dict.fromkeys(column.note for column in content.columns) if note]
    notes += [f"{text[0].upper()}{text[1:]}." for text in footnotes([asdict(cell) for cell in planned])]
    notes += [single_loss_note(norm, loss) for norm, loss in content.design.single_losses.items()]
    if any(cell.flags is None for cell in planned):
        notes.append("Under attack, a number that was not diagnosed is not bold.")
    if any(cell.accuracy is None for cell in planned):
        notes.append(f"{MISSING}: every cell is missing.")
    if len(planned) < len(cells):
        notes.append(f"{NOT_APPLICABLE}: not for this variant.")
    if content.left_out:
        notes.append(f"Run at other budgets only: {', '.join(content.left_out)}.")
    return notes


def _interval_notes(measured: list[TableCell]) -> list[str]:
    over_seeds = [cell for cell in measured if spread_text(cell)]
    notes = []
    if over_seeds:
        notes.append(f"±: 95 % t-interval over {_span({cell.seeds for cell in over_seeds})} training seeds.")
    if others := [cell for cell in measured if not spread_text(cell)]:
        equal = " or of seeds that are all equal" if any(cell.seeds > 1 for cell in others) else ""
        notes.append(f"[low, high]: 95 % Wilson interval over samples, of one training seed{equal}.")
    if attack_seeds := {cell.attack_seeds for cell in measured if cell.attack_seeds > 1}:
        notes.append(f"Attacks with {_span(attack_seeds)} seeds: their mean is one value per training seed.")
    return notes


def _span(values: set[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
