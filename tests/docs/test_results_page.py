"""docs/results.md is what the kept tables make, whose verdicts and published numbers are right."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from gauntlet.config import load
from gauntlet.config.published import published_quantities
from gauntlet.core.errors import InputError
from gauntlet.reporting.kept_results import kept_text, read_kept
from gauntlet.reporting.results_page import results_page
from gauntlet.reporting.stats import prediction_interval
from tests.support import ROOT

FOLDER = ROOT / "docs" / "results"
TABLES = {path.stem: read_kept(path) for path in sorted(FOLDER.glob("*.csv"))}
ROW = TABLES["adversarial_mnist"][0]


@pytest.fixture
def folder(tmp_path):
    """A folder with a short introduction and one experiment's text."""
    (tmp_path / "introduction.md").write_text("# Results\n")
    (tmp_path / "mine.md").write_text("## Mine\n\nA text.\n")
    return tmp_path


def test_the_page_is_written_from_the_kept_tables():
    """Run the documented command again after a change of docs/results."""
    command = [sys.executable, "-m", "gauntlet.reporting.results_page", "docs/results"]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert written == (ROOT / "docs" / "results.md").read_text()


def test_every_decimal_number_of_the_findings_is_on_the_page_of_results():
    """Digit by digit; a number that was rounded otherwise, or measured again, is corrected there."""
    decimal = re.compile(r"(?<![\d.])\d+\.\d+(?!\.?\d)")
    findings, results = (decimal.findall((ROOT / "docs" / name).read_text()) for name in ("findings.md", "results.md"))
    assert len(findings) > 20
    assert not set(findings) - set(results)


@pytest.mark.parametrize("name", TABLES)
def test_differences_and_verdicts_follow_from_the_numbers(name):
    """So that no kept row claims what its numbers do not; what was measured names its commit or date."""
    for row in TABLES[name]:
        published, measured = row["published"], row["measured"]
        assert (row["verdict"] is None) == (published is None)
        if measured is None:
            assert (row["verdict"], row["difference"], row["seeds"]) == ("missing", None, 0)
            continue
        assert row["date"]
        assert row["command"]
        assert row["seeds"] == len(row["training_seeds"].split())
        if published is not None:
            assert row["difference"] == pytest.approx(measured - published, abs=1e-6)
            over_seeds = row["interval"] == "seeds"
            if row["training_std"] == 0:
                # Equal seeds: their spread is not known.
                assert not over_seeds
                assert (row["expected_low"], row["expected_high"], row["verdict"]) == (None, None, "equal seeds")
                continue
            if over_seeds:
                future = row["published_seeds"] or 1
                expected = prediction_interval(row["low"], row["high"], values=row["seeds"], future=future)
                assert (row["expected_low"], row["expected_high"]) == pytest.approx(tuple(map(float, expected)))
            inside = over_seeds and row["expected_low"] <= published <= row["expected_high"]
            assert row["verdict"] == ("inside" if inside else "outside" if over_seeds else "one seed")
        if row["low"] is not None:
            assert row["low"] <= measured <= row["high"]


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "experiments").glob("*.yaml"))])
def test_published_numbers_are_those_of_the_experiment_file(name):
    """The same value and reference for every variant and quantity; none in the file is left out but the unrun."""
    experiments = load([ROOT / "experiments" / f"{name}.yaml"]).experiments
    for row in TABLES[name]:
        if row["published"] is not None:
            experiment = experiments[row["experiment"]]
            _, number = published_quantities(experiment)[row["variant"], row["quantity"]]
            assert number.value == row["published"], row
            assert row["reference"] == experiment.published.reference


def test_numbers_with_and_without_a_published_value_have_tables(folder):
    """Means over seeds with verdicts and reasons; measured only, a column per variant and commit; origins once."""
    outside = {**ROW, "measured": 97.25, "low": 97.0, "high": 97.5, "interval": "seeds", "seeds": 3, "samples": 1500}
    outside |= {"expected_low": 96.75, "expected_high": 97.75}
    outside |= {"difference": -1.25, "verdict": "outside", "reason": "A shorter training.", "commit": "abc"}
    alone = {**ROW, "quantity": "square", "published": None, "verdict": None, "difference": None, "commit": "def"}
    (folder / "mine.csv").write_text(kept_text([outside, alone]))
    assert read_kept(folder / "mine.csv") == [outside, alone]
    lines = results_page(folder).splitlines()
    assert (
        "| `madry` | clean | 98.5 | 97.2 | 97.0 to 97.5 | 96.8 to 97.8 | 3 | 500 | **outside, -1.2** | abc |" in lines
    )
    assert "- `madry`, clean: A shorter training." in lines
    assert "|  | `madry`, def |" in lines
    assert any(line.startswith("| square | 98.4 \\[") for line in lines)
    assert sum(line.startswith(("| abc |", "| def |")) for line in lines) == 2


def test_numbers_have_the_marks_of_missing_cells_and_failed_checks(folder):
    """With and without a published value, each explained once below; a number without them has none."""
    masked = {**ROW, "flags": "zero_gradients"}
    absent = {**ROW, "quantity": "square", "published": None, "verdict": None, "difference": None, "missing": 2}
    plain = {**absent, "quantity": "fgsm", "missing": 0}
    (folder / "mine.csv").write_text(kept_text([masked, absent, plain]))
    lines = results_page(folder).splitlines()
    assert any(line.startswith("| `madry` | clean | 98.5 | 98.4‡ |") for line in lines)
    assert any(line.startswith("| square | 98.4\\* \\[") for line in lines)
    assert any(line.startswith("| fgsm | 98.4 \\[") for line in lines)
    notes = [line for line in lines if line.startswith(("- ‡", "- \\*"))]
    assert notes == ["- \\* cells are missing: may be too high.", "- ‡ gradients look masked: may be too high."]
    assert "not diagnosed" not in results_page(folder).lower()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("commit,", "commits,", 1), "mine.csv: there is no column commit"),
        (lambda text: text.replace(",98.5,", ",high,", 1), "mine.csv:2: published is 'high'; write a number"),
    ],
)
def test_a_damaged_table_is_refused_with_its_place(folder, damage, message):
    """A missing column, and a value that is no number."""
    (folder / "mine.csv").write_text(damage(kept_text([ROW])))
    with pytest.raises(InputError) as error:
        results_page(folder)
    assert message in str(error.value)


def test_a_table_without_a_text_is_refused(folder):
    """It would be on no page."""
    (folder / "lost.csv").write_text(kept_text([ROW]))
    with pytest.raises(InputError, match=r"lost\.csv: the table has no text"):
        results_page(folder)
