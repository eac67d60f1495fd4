"""Every number on the page equals its query on the results file, for random numbers of all tables."""

from __future__ import annotations

import random
import re
import shutil
from html.parser import HTMLParser

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import ATTACKS_VOLATILE, measure_attacks
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.from_results import report_from_results
from gauntlet.reporting.page import render_report
from gauntlet.reporting.page.gallery import read_gallery
from gauntlet.reporting.page.queries import page_queries
from tests.support import synthetic


class Tables(HTMLParser):
    """Parser that collects every number of a table with the attributes of table, row and column."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self._table, self._line, self._columns, self._cell = [], None, {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Record the cell whose number follows."""
        data = {name.removeprefix("data-"): value for name, value in attrs if name.startswith("data-")}
        if tag == "table":
            self._table, self._columns = data, []
        elif tag == "tr":
            self._line, self._place = data, -1
        elif tag in ("th", "td") and self._table is not None:
            self._place += 1
            if tag == "th" and not self._line:
                self._columns.append(data)
            column = self._columns[self._place] if tag == "td" and self._place < len(self._columns) else {}
            wanted = "column" in column and "colspan" not in dict(attrs)
            self._cell = ({**self._table, **self._line, **column}, []) if wanted else None

    def handle_data(self, data):
        """Collect the text of a cell."""
        if self._cell is not None and data.strip():
            self._cell[1].append(data.strip())

    def handle_endtag(self, tag):
        """Record the number of a cell."""
        if tag == "td" and self._cell is not None:
            ids, words = self._cell
            if words and words[0] != "–":
                self.numbers.append((ids, words[0]))
            self._cell = None
        elif tag == "table":
            self._table = None


def literal(value):
    return "'" + str(value).replace("'", "''") + "'"


def query_result(folder, ids):
    """Fill the query of a number and return its result."""
    query = page_queries(())[f"{ids['table']}.{ids['column']}"]
    files = {"rows": folder / "evaluations.parquet", "radii": folder / "certificates.parquet"}
    values = {name: literal(value) for name, value in {**ids, **files}.items()}
    query = re.sub(
        r":(rows|radii|variant|attack|norm|seed|certificate|budget)\b", lambda found: values[found[1]], query
    )
    return duckdb.sql(query).fetchall()[0][0]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment with a missing cell, errors and budgets that are no short decimals; its page and inputs."""
    folder = tmp_path_factory.mktemp("numbers")
    attacks = (
        *synthetic.ATTACKS,
        synthetic.AttackDesign("in_255ths", "linf", tuple(number / 255 for number in (1, 2, 8, 16))),
    )
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1, 2), attacks)
    made = synthetic.write_experiment(folder, plan, samples=70, absent=synthetic.cells(plan)[3:4])
    write_table(folder / "attacks.parquet", measure_attacks(made.evaluations), {}, volatile=ATTACKS_VOLATILE)
    examples = tuple(ExamplesFile(*key, path) for key, path in made.examples.items())
    inputs = FigureInputs(
        plan.variants, made.evaluations, made.summary, made.certificates, (), examples, (), folder / "attacks.parquet"
    )
    return folder, inputs, Tables(render_report(inputs, figures={})).numbers


@pytest.mark.parametrize("kind", ["worst", "single", "cell", "certified", "cost"])
@pytest.mark.parametrize("draw", range(3))
def test_random_numbers_equal_their_queries(experiment, kind, draw):
    """The printed number equals the query's to the printed digits."""
    folder, _, numbers = experiment
    mine = [one for one in numbers if one[0]["table"] == kind]
    assert {f"{kind}.{ids['column']}" for ids, _ in mine} == {
        name for name in page_queries(()) if name.startswith(f"{kind}.") and name != "worst.distance"
    }
    for ids, shown in random.Random(f"{kind} {draw}").sample(mine, min(25, len(mine))):
        value = float(query_result(folder, ids))
        digits = len(shown.partition(".")[2])
        if ids["column"] in ("distance", "median") or (kind == "cost" and ids["column"].endswith("wards")):
            assert shown == (f"{value:.0f}" if value >= 1000 else f"{value:.3g}"), ids
        else:
            assert shown == f"{value:.{digits}f}", ids


def test_the_gallery_shows_each_attack_on_each_variant_before_any_twice(experiment):
    """The number of images is limited, and those left out are counted."""
    _, inputs, _ = experiment
    whole = read_gallery(inputs)
    assert whole.left_out == 0
    assert len(whole.entries) == 3 * 7 - 1  # one cell is missing
    assert all(1 < len(one["images"]) <= 8 for one in whole.entries)
    labels = [image["label"] for image in whole.entries[0]["images"]]
    assert len(set(labels[: len(set(labels))])) == len(set(labels))
    size = sum(len(image["original"]) * 3 for one in whole.entries for image in one["images"][:1])
    less = read_gallery(inputs, most_bytes=size)
    assert {len(one["images"]) for one in less.entries} <= {1, 2}
    assert less.left_out == sum(len(one["images"]) for one in whole.entries) - sum(
        len(one["images"]) for one in less.entries
    )


def test_images_are_labeled_by_their_rows(experiment):
    """Label, prediction and distance of an image are those of its row."""
    folder, inputs, _ = experiment
    for one in read_gallery(inputs).entries:
        for image in one["images"][:2]:
            where = (
                f"variant = {literal(one['variant'])} AND attack = {literal(one['attack'])} AND seed = {one['seed']}"
            )
            rows = duckdb.sql(
                f"SELECT label, adversarial_prediction, norm, linf, l2 FROM '{folder}/evaluations.parquet' "
                f"WHERE {where} AND index = {image['index']}"
            ).fetchall()
            assert len(rows) == 1
            label, prediction, norm, linf, l2 = rows[0]
            assert (image["label"], image["prediction"]) == (str(label), str(prediction))
            assert image["distance"] == {"linf": linf, "l2": l2}[norm]


def test_a_file_of_an_earlier_version_next_to_the_results_is_left_out(experiment, tmp_path, caplog):
    """A file that lacks a column of today costs its section of the page, with a warning; results stay readable."""
    folder, _, _ = experiment
    shutil.copy(folder / "evaluations.parquet", tmp_path / "evaluations.parquet")
    costs = pq.read_table(folder / "attacks.parquet")
    write_table(tmp_path / "attacks.parquet", costs.rename_columns({"optimality": "closeness"}), {})
    write_table(tmp_path / "origins.parquet", pa.table({"probe": ["pgd"]}), {})
    report_from_results(tmp_path / "evaluations.parquet", tmp_path / "report.html")
    assert "attacks.parquet is left out: it has no column optimality" in caplog.text
    assert "origins.parquet is left out: it has no column experiment" in caplog.text
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Worst case" in text
    assert "Cost and optimality" not in text


def test_a_lone_results_file_has_a_page(experiment, tmp_path):
    """A page with tables, curves and figures needs evaluations.parquet only."""
    folder, _, numbers = experiment
    shutil.copy(folder / "evaluations.parquet", tmp_path)
    report_from_results(tmp_path / "evaluations.parquet", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    alone = [one for one in Tables(text).numbers if one[0]["table"] in ("worst", "single", "cell")]
    assert alone == [one for one in numbers if one[0]["table"] in ("worst", "single", "cell")]
    assert 'id="figure-robust_accuracy"' in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluations.parquet", "page.html"]
