"""The page: complete, self-contained, deterministic, and safe to open."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_table, write_table
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.learning.data.manifest import duplicate_notes
from gauntlet.reporting.aggregation import (
    ATTACKS_VOLATILE,
    AttackDesign,
    AttackRun,
    ExperimentDesign,
    certified_accuracies,
    combine,
    measure_attacks,
    summarize,
)
from gauntlet.reporting.aggregation.summary import SUMMARY_SCHEMA
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.page import render_report, write_report
from gauntlet.robustness.diagnostics.checks import add_verdicts, collect_flags
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic
from tests.support.cells import make_cell

MARK = "gauntlet-cell:sha256:" + "0" * 64
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Parser that checks that tags nest, and collects attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.text, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Open a tag."""
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Collect the text."""
        self.text.append(data)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment with a missing cell and two figures."""
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), synthetic.ATTACKS[:5])
    folder = tmp_path_factory.mktemp("experiment")
    experiment = synthetic.write_experiment(folder, plan, samples=60, absent=synthetic.cells(plan)[1:2])
    inputs = FigureInputs(plan.variants, experiment.evaluations, experiment.summary, experiment.certificates)
    figures = {}
    for name, suffix in (("robust_accuracy", "svg"), ("heat_map", "png")):
        (figures[name],) = write_figure(name, inputs, folder / "figures", formats=(suffix,))
    return plan, inputs, figures


@pytest.fixture(scope="module")
def text(experiment):
    """The page of the experiment."""
    _, inputs, figures = experiment
    left_out = ["evaluate digits variant=softmax seed=0 attack=pgd <stale>"]
    return render_report(inputs, figures=figures, mark=MARK, left_out=left_out)


def test_every_variant_attack_and_cell_has_a_line(experiment, text):
    """Missing cells are marked."""
    plan, _, _ = experiment
    words = " ".join(" ".join(Page(text).text).split())
    for variant, seed, attack in plan.cells():
        assert f"{variant} {seed} {attack}" in words
    assert "softmax 0 pgd L∞ missing" in words


def test_headline_numbers_are_those_of_the_summary(experiment, text):
    """The worst case of every variant and budget has both intervals."""
    _, inputs, _ = experiment
    shown = re.sub(r"<[^>]*>", " ", text)
    for row in read_table(inputs.summary).to_pylist():
        if row["attack"].startswith("worst:"):
            spread = "" if row["t_low"] is None else rf"± {50 * (row['t_high'] - row['t_low']):.1f} "
            mean, low = f"{100 * row['robust_accuracy']:.1f}", f"{100 * row['wilson_low']:.1f}"
            flag = r"\s*\*" if row["missing"] else ""
            assert re.search(rf"\b{re.escape(mean)}{flag}\s*{spread}\[{re.escape(low)}", shown)


def test_cells_and_certificates_are_counted_from_the_samples(experiment, text):
    """Their tables equal counts of the rows."""
    _, inputs, _ = experiment
    words = " ".join(" ".join(Page(text).text).split())
    rows = [
        row
        for row in pq.read_table(inputs.evaluations).to_pylist()
        if (row["variant"], row["seed"], row["attack"]) == ("ecc", 1, "cw")
    ]
    clean = 100 * sum(row["clean_prediction"] == row["label"] for row in rows) / len(rows)
    fooled = sum(row["status"] == "adversarial" for row in rows)
    robust = sum(row["status"] == "robust" for row in rows)
    assert f"ecc 1 cw L2 {len(rows)} {clean:.1f} {fooled} {robust} 0" in words
    certified = [row for row in pq.read_table(inputs.certificates).to_pylist() if row["certificate"] == "margin"]
    at = [sum(row["radius"] >= 0.3 for row in certified), sum(row["status"] == "certified" for row in certified)]
    shares = [f"{100 * count / len(certified):.1f}" for count in at]
    found = re.search(r"lipschitz margin ([\d. ]+)", words)
    numbers = found[1].split()
    assert numbers[0] == shares[1]
    assert numbers[1 + synthetic.L2.index(0.3)] == shares[0]


def certified_tables(text):
    """Return the tables of certified accuracies as lists of lists of texts."""
    found = re.findall(r'data-table="certified".*?</table>', text, flags=re.DOTALL)
    return [
        [
            ["".join(re.sub(r"<[^>]*>", "", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        for table in found
    ]


def test_certified_accuracies_are_below_the_radii_they_are_about(tmp_path):
    """Also where an attack outside of the worst case has a budget that no other attack has."""
    few = synthetic.AttackDesign("few", "l2", (0.2,), counts=False, samples=5)
    plan = synthetic.plan(("lipschitz",), attacks=(*synthetic.ATTACKS[3:4], few))
    made = synthetic.write_experiment(tmp_path, plan, samples=60)
    rows = [row for row in pq.read_table(made.certificates).to_pylist() if row["certificate"] == "margin"]
    ((heads, margin, _),) = certified_tables(render_report(find_inputs(made.evaluations), figures={}))
    assert heads[3:-1] == ["ε=0.1", "ε=0.2", "ε=0.3", "ε=1", "ε=3"]
    assert len(margin) == len(heads)
    for head, share in zip(heads[3:-1], margin[3:-1], strict=True):
        held = sum(row["radius"] >= float(head.removeprefix("ε=")) for row in rows)
        assert share == f"{100 * held / len(rows):.1f}"


def test_certificates_in_a_norm_without_attacks_are_on_the_page(tmp_path):
    """At the radii of the certified accuracies, in a section without tables of attacks."""
    made = synthetic.write_experiment(tmp_path, synthetic.plan(attacks=synthetic.ATTACKS[:1]), samples=60)
    text = render_report(find_inputs(made.evaluations), figures={})
    (table,) = certified_tables(text)
    certified = certified_accuracies(made.certificates).to_pylist()
    radii = list(dict.fromkeys(row["radius"] for row in certified if row["radius"]))
    assert [float(head.removeprefix("ε=")) for head in table[0][3:-1]] == radii
    shares = {(row["variant"], row["certificate"], row["radius"]): row["certified_accuracy"] for row in certified}
    for line in table[1:]:
        name = line[1].partition("(")[0]
        assert line[3:-1] == [f"{100 * shares[line[0], name, radius]:.1f}" for radius in radii]
    assert "No attack was run in this norm." in text
    assert text.count('data-table="single"') == 1


def test_missing_certificates_are_marked_counted_and_listed(tmp_path):
    """As missing cells of attacks are."""
    plan = synthetic.plan(("softmax", "ecc"), attacks=synthetic.ATTACKS[3:4])
    made = synthetic.write_experiment(tmp_path, plan, samples=30)
    complete = render_report(find_inputs(made.evaluations), figures={})
    assert "cells are missing; numbers marked" not in complete
    table = pq.read_table(made.certificates)
    kept = pc.invert(pc.and_(pc.equal(table["variant"], "ecc"), pc.equal(table["seed"], 1)))
    pq.write_table(table.filter(kept).replace_schema_metadata(plan.metadata()), made.certificates)
    text = render_report(find_inputs(made.evaluations), figures={})
    assert [line[0] for line in certified_tables(text)[0][1:]] == ["softmax", "ecc*"]
    assert "1 of 12 cells are missing; numbers marked" in text
    assert "<li>ecc, seed 1, smooth</li>" in text


def rounded(value):
    """Return a number in the page's format."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def test_costs_and_optimality_are_listed_per_attack(experiment, tmp_path):
    """Costs per broken sample and mean optimality over models; unknown values are a dash."""
    plan, inputs, _ = experiment
    runs = {key: AttackRun(30.0, "gauntlet", "1.2") for key in plan.cells() if key[2] != "cw"}
    table = measure_attacks(inputs.evaluations, runs)
    write_table(tmp_path / "attacks.parquet", table, {}, volatile=ATTACKS_VOLATILE)
    page = Page(render_report(replace(inputs, attacks=tmp_path / "attacks.parquet"), figures={}))
    words = " ".join(" ".join(page.text).split())
    for attack, norm, library in (("pgd", "L∞", "gauntlet 1.2"), ("cw", "L2", "–"), ("fgsm", "L∞", "gauntlet 1.2")):
        rows = [row for row in table.to_pylist() if row["attack"] == attack and row["samples"]]
        broken = sum(row["broken"] for row in rows)
        success = 100 * broken / sum(row["attacked"] for row in rows)
        uses = [rounded(sum(row[name] for row in rows) / broken) for name in ("forwards", "backwards")]
        seconds = "–" if attack == "cw" else f"{30 * len(rows) / broken:.3g}"
        optimality = f"{sum(row['optimality'] for row in rows) / len(rows):.3f}"
        numbers = f"{len(rows)} {success:.1f} {' '.join(uses)} {seconds} {optimality}"
        assert f"{attack} {norm} {library} {numbers}" in words


def test_missing_cells_and_those_left_out_are_announced_and_listed(text):
    """A warning precedes the numbers, and a section lists the cells; none is said to have failed."""
    page = Page(text)
    words = " ".join(" ".join(page.text).split())
    assert "1 of 38 cells are missing" in words
    assert words.index("1 of 38 cells are missing") < words.index("Robust accuracy in percent")
    assert "1 cell was left out, missing or stale." in words
    assert "Left out Missing or stale when the results were aggregated" in words
    assert "evaluate digits variant=softmax seed=0 attack=pgd <stale>" in words
    assert "&lt;stale&gt;" in text
    assert "failed" not in words[: words.index("Robust accuracy in percent")]


def test_a_complete_experiment_has_no_warning(tmp_path):
    """The section states that no cell is missing."""
    plan = synthetic.plan(("softmax",), (0, 1), synthetic.ATTACKS[:1])
    experiment = synthetic.write_experiment(tmp_path, plan, samples=20)
    text = render_report(FigureInputs(plan.variants, experiment.evaluations, experiment.summary), figures={})
    assert 'class="notice"' not in text
    assert "no planned cell is missing" in text


def test_a_page_of_certificates_alone_states_their_samples(experiment, tmp_path):
    """Without attacks, or where all of their cells are missing, something was measured all the same."""
    _, inputs, _ = experiment
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), ())
    evaluations, summary = tmp_path / "evaluations.parquet", tmp_path / "summary.parquet"
    write_table(evaluations, EVALUATION_SCHEMA.empty_table(), plan.metadata())
    write_table(summary, SUMMARY_SCHEMA.empty_table(), plan.metadata())
    page = render_report(FigureInputs(plan.variants, evaluations, summary, inputs.certificates), figures={})
    assert "3 variants, 0 attacks; 60 samples × 2 seeds." in page
    assert "nothing was measured" not in page


def test_the_page_is_self_contained(text):
    """It has no external link or file, and allows its own script only."""
    page = Page(text)
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{allowed}'"]
    for tag, name, value in page.attributes:
        assert tag not in ("link", "iframe", "object")
        assert not name.startswith("on")
        assert (tag, name) != ("script", "src")
        if name in ("src", "href"):
            assert value.startswith("data:image/") if name == "src" else value.removeprefix("#") in page.ids
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_figures_are_embedded_with_their_captions(experiment, text):
    """Each figure is embedded as data with an alternative text."""
    _, _, figures = experiment
    page = Page(text)
    sources = [value for _, name, value in page.attributes if name == "src"]
    assert [source.split(";")[0] for source in sources] == ["data:image/svg+xml", "data:image/png"]
    texts = [value for _, name, value in page.attributes if name == "alt"]
    assert len(texts) == len(figures)
    assert all(len(alternative) > 40 for alternative in texts)


def test_ids_are_unique(text):
    """No two elements share an anchor."""
    ids = Page(text).ids
    assert len(ids) == len(set(ids))


def test_notes_about_the_data_are_in_the_head(experiment):
    """A reader sees before the numbers that test images are training images too."""
    _, inputs, figures = experiment
    notes = duplicate_notes({"train/test": 7}, {"train": 80, "validation": 20, "test": 50})
    head = render_report(inputs, figures=figures, notes=notes).partition("<main>")[0]
    assert "7 of 50 test images are training images too" in head


def test_the_same_files_give_the_same_bytes(experiment, text, tmp_path):
    """The page holds neither time nor folder, and its mark is near its beginning."""
    _, inputs, figures = experiment
    write_report(tmp_path / "a.html", inputs, figures=figures, mark=MARK)
    write_report(tmp_path / "b.html", inputs, figures=figures, mark=MARK)
    content = (tmp_path / "a.html").read_bytes()
    assert content == (tmp_path / "b.html").read_bytes()
    assert MARK.encode() in content[: 1 << 16]
    assert str(inputs.summary.parent).encode() not in content


def test_hostile_names_stay_text(tmp_path):
    """Markup in names is escaped."""
    hostile = "<script>alert(1)</script>"
    attack = AttackDesign('"><img src=x onerror=alert(2)>', "linf", (0.1,))
    plan = ExperimentDesign(hostile, (hostile, "plain"), (0,), (attack,))
    files = {}
    for number, variant in enumerate(plan.variants):
        cell = make_cell("evaluate", hostile, variant, 0, attack.name)
        files[cell] = tmp_path / f"{number}.parquet"
        write_table(files[cell], synthetic.evaluation(cell, attack, samples=10), {})
    made_by = {"gauntlet.commit": "</dd><script>alert(3)</script>"}
    combine(files, tmp_path / "evaluations.parquet", design=plan, metadata=made_by)
    write_table(tmp_path / "summary.parquet", summarize(tmp_path / "evaluations.parquet"), {})
    inputs = FigureInputs(plan.variants, tmp_path / "evaluations.parquet", tmp_path / "summary.parquet")
    text = render_report(inputs, figures={}, mark=MARK)
    page = Page(text)
    assert not [tag for tag, _, _ in page.attributes if tag == "img"]
    assert text.count("<script") == text.count("</script") == 2  # the data and the page's own
    assert hostile in "".join(page.text)
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert [one["name"] for one in json.loads(block)["variants"]] == [hostile, "plain"]
    assert attack.name in unescape(text)


def test_provenance_of_the_table_is_shown(tmp_path):
    """The recipe of the samples is at the end, with nested values readable."""
    plan = synthetic.plan(("softmax",), (0,), synthetic.ATTACKS[:1])
    files = synthetic.write_evaluations(tmp_path, plan, samples=10)
    metadata = {"gauntlet.commit": "deadbeef", "gauntlet.recipe": '{"stage":"aggregate","slice":{"seeds":[0]}}'}
    combine(files, tmp_path / "evaluations.parquet", design=plan, metadata=metadata)
    write_table(tmp_path / "summary.parquet", summarize(tmp_path / "evaluations.parquet"), {})
    inputs = FigureInputs(plan.variants, tmp_path / "evaluations.parquet", tmp_path / "summary.parquet")
    words = " ".join(Page(render_report(inputs, figures={})).text)
    assert "deadbeef" in words
    assert '"stage": "aggregate"' in words


def test_an_experiment_without_attacks_has_a_page(tmp_path):
    """It may have training curves only."""
    plan = synthetic.plan(attacks=())
    write_table(tmp_path / "evaluations.parquet", EVALUATION_SCHEMA.empty_table(), plan.metadata())
    write_table(tmp_path / "summary.parquet", summarize(tmp_path / "evaluations.parquet"), plan.metadata())
    inputs = FigureInputs(plan.variants, tmp_path / "evaluations.parquet", tmp_path / "summary.parquet")
    words = " ".join(" ".join(Page(render_report(inputs, figures={})).text).split())
    assert "4 variants, 0 attacks; nothing was measured" in words


def test_one_variant_and_one_attack_are_counted_in_the_singular(tmp_path):
    """The head of the page says 1 variant, not 1 variants."""
    plan = replace(synthetic.plan(), variants=synthetic.plan().variants[:1], attacks=synthetic.plan().attacks[:1])
    write_table(tmp_path / "evaluations.parquet", EVALUATION_SCHEMA.empty_table(), plan.metadata())
    write_table(tmp_path / "summary.parquet", summarize(tmp_path / "evaluations.parquet"), plan.metadata())
    inputs = FigureInputs(plan.variants, tmp_path / "evaluations.parquet", tmp_path / "summary.parquet")
    words = " ".join(" ".join(Page(render_report(inputs, figures={})).text).split())
    assert "1 variant, 1 attack; nothing was measured" in words


def test_missing_figures_and_tables_are_refused(experiment, tmp_path):
    """Missing figures and tables and unknown formats are named."""
    _, inputs, _ = experiment
    with pytest.raises(InputError, match=r"gone\.svg"):
        render_report(inputs, figures={"heat_map": tmp_path / "gone.svg"})
    with pytest.raises(InputError, match=r"\.pdf"):
        render_report(inputs, figures={"heat_map": tmp_path / "figure.pdf"})
    with pytest.raises(InputError, match="summary"):
        render_report(replace(inputs, summary=None), figures={})


def test_diagnostics_are_shown_with_their_evidence(experiment, tmp_path):
    """The worst verdict per check and variant, evidence of failures, and flagged variants are shown."""
    _, inputs, figures = experiment
    found = {
        "softmax": Measurement.share("unbounded_budget", "linf", [], 40, "PGD reaches all"),
        "ecc": Measurement.share("unbounded_budget", "linf", range(15), 40, "PGD <does> not reach them"),
    }
    rows = [measurement_table([one], experiment="digits", variant=name, seed=1) for name, one in found.items()]
    diagnostics = add_verdicts(pa.concat_tables(rows))
    write_table(tmp_path / "diagnostics.parquet", diagnostics, {})
    summary = summarize(inputs.path("evaluations"), flags=collect_flags(diagnostics))
    write_table(tmp_path / "summary.parquet", summary, {})
    flagged = replace(inputs, diagnostics=tmp_path / "diagnostics.parquet", summary=tmp_path / "summary.parquet")
    page = Page(render_report(flagged, figures=figures, mark=MARK))
    words = " ".join(" ".join(page.text).split())
    assert "unbounded budget pass fail –" in words
    assert "15 of 40 samples: PGD <does> not reach them" in words
    assert "1 of 3 variants fails a check: ecc" in words
    assert "‡" in words
