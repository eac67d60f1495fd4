"""Numbers that were never planned: the source of the only transfer in a norm has no accuracy under attack there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gauntlet.core.parquet import read_table
from gauntlet.reporting.aggregation import AttackDesign, compare_variants
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.page.content import read_content
from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.files import render_tables
from gauntlet.reporting.tables.summary_text import markdown_table
from tests.support import synthetic

ATTACKS = (
    AttackDesign("pgd", "linf", (0.1,)),
    AttackDesign("transfer", "l2", (1.0,), without=("softmax",), sources=("softmax",)),
)


@pytest.mark.parametrize("attacks", [ATTACKS, ATTACKS[1:]], ids=["another norm", "no other attack"])
def test_what_was_never_planned_is_not_missing(tmp_path, attacks):
    """Neither a worst case nor, without any attack, the clean accuracy: n/a, and no note on missing cells."""
    plan = replace(synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), attacks), certificates=())
    made = synthetic.write_experiment(tmp_path, plan, samples=60)
    summary = read_table(made.summary)
    inputs = TableInputs(made.evaluations, summary, compare_variants(made.evaluations), summary.slice(0, 0))
    lines = render_tables(inputs)["table.md"].splitlines()
    (row,) = [line for line in lines if line.startswith("| softmax |")]
    assert [field.strip() for field in row.split("|")].count("n/a") == (2 if attacks == ATTACKS else 3)
    assert not any("every cell is missing" in line for line in lines)
    text = markdown_table(summary)
    assert text.count("| softmax |") == (2 if attacks == ATTACKS else 0)
    assert "–" not in text
    found = find_inputs(made.evaluations)
    sections = {section.key: section for section in read_content(found).norms}
    assert [row.variant for row in sections["l2"].worst] == ["ecc", "lipschitz"]
    for figure in available_figures(found):
        draw(figure, found)
