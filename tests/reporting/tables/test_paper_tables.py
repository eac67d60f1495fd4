"""Tables of a paper: every number against a query on the results, marks and notes."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.reporting.aggregation import (
    AttackDesign,
    certified_accuracies,
    combine,
    compare_variants,
    norm_grids,
    open_evaluations,
    summarize,
)
from gauntlet.reporting.aggregation.certified import CERTIFIED_SCHEMA
from gauntlet.reporting.aggregation.headline import headline_budgets
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.from_results import tables_from_results
from gauntlet.reporting.tables.cells import Column, TableInputs, read_table_content
from gauntlet.reporting.tables.files import FILES, render_tables
from gauntlet.reporting.tables.latex import escape_latex
from gauntlet.reporting.tables.macros import macro_name
from tests.support import synthetic
from tests.support.grids import grid_plan

ATTACKS = (
    AttackDesign("fgsm", "linf", synthetic.LINF, without=("ecc",), title="FGSM, 100 % & <more>_{x}"),
    AttackDesign("pgd", "linf", (0.03, 0.1), repeats="pgd"),
    AttackDesign("pgd_1", "linf", (0.03, 0.1), repeats="pgd"),
    AttackDesign("spsa", "linf", (0.1,)),
    AttackDesign("rubbish", "linf", (1.0,), counts=False),
    AttackDesign("pgd_l2", "l2", synthetic.L2),
    AttackDesign("cw", "l2", None),
    AttackDesign("noise", "l2", synthetic.L2),
    AttackDesign("few", "linf", (0.03, 0.1), counts=False, samples=12),
)
FLAGS = {("lipschitz", "linf"): ("zero_gradients",)}


def drawn(folder, number):
    """Draw an experiment: a random choice of variants, seeds and attacks, samples and missing cells."""
    draw = np.random.default_rng(number)
    variants = [one for one in synthetic.VARIANTS if one == "lipschitz" or draw.random() < 0.8] or ["softmax"]
    attacks = tuple(one for one in ATTACKS if one.name.startswith("pgd") or draw.random() < 0.8)
    if number % 2:
        attacks = tuple(replace(one, epsilons=(0.03, 0.1)) if one.name == "rubbish" else one for one in attacks)
    plan = replace(
        synthetic.plan(variants, range(draw.integers(1, 4)), attacks),
        titles={"hydra_ecc": "4 × ECC [ours] * ~ε"},
        headline={"linf": (0.03, 0.1)} if number % 2 else {},
    )
    absent = [one for one in synthetic.cells(plan) if draw.random() < 0.08]
    return inputs_of(synthetic.write_experiment(folder, plan, samples=int(draw.integers(20, 90)), absent=absent))


def inputs_of(made):
    """Return the inputs of tables, as aggregation makes them."""
    with open_evaluations(made.evaluations) as opened:
        radii = headline_budgets(opened.design, norm_grids(opened))
    certified = certified_accuracies(made.certificates, radii=radii)
    compared = compare_variants(made.evaluations, made.certificates, certified=certified)
    return TableInputs(made.evaluations, summarize(made.evaluations, flags=FLAGS), compared, certified)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete experiment."""
    plan = replace(
        synthetic.plan(attacks=ATTACKS), titles={"hydra_ecc": "4 × ECC [ours] * ~ε"}, headline={"linf": (0.1,)}
    )
    return synthetic.write_experiment(tmp_path_factory.mktemp("whole"), plan, samples=120)


@pytest.fixture(scope="module")
def texts(whole):
    """The tables of the complete experiment."""
    return render_tables(inputs_of(whole), mark="gauntlet-cell:sha256:0")


@pytest.mark.parametrize("number", range(3))
def test_every_number_equals_its_query(tmp_path, monkeypatch, number):
    """Each macro is the result of its query on the results, and is in the tables."""
    inputs = drawn(tmp_path, number)
    texts = render_tables(inputs)
    monkeypatch.chdir(tmp_path)
    found = re.findall(
        r"^% (SELECT .*)\n\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}$", texts["macros.tex"], flags=re.MULTILINE
    )
    lines = [row for row in csv.DictReader(io.StringIO(texts["table.csv"])) if row["accuracy"]]
    assert len(found) == len(lines) > 10
    for (query, name, shown), row in zip(found, lines, strict=True):
        value = duckdb.sql(query).fetchall()[0][0]
        assert value == pytest.approx(100 * float(row["accuracy"]), abs=1e-9), name
        assert shown == f"{100 * float(row['accuracy']):.1f}"
        assert value == pytest.approx(float(shown), abs=0.0500001)
    content = read_table_content(inputs)
    for text, separator in ((texts["table.tex"], "&"), (texts["table.md"], "|")):
        body = text.splitlines()
        first = body.index(r"\midrule") + 1 if separator == "&" else 4
        for place, variant in enumerate(content.design.variants):
            cells = [cell for cell in re.split(rf"(?<!\\)\{separator}", body[first + place]) if cell.strip()][1:]
            for cell, column in zip(cells, content.columns, strict=True):
                accuracy = content.cells[variant, column].accuracy
                wanted = {f"{100 * accuracy:.1f}"} if accuracy is not None else {"—", "---", "n/a"}
                assert re.search(r"—|---|n/a|[0-9.]+", cell)[0] in wanted


def test_intervals_are_those_of_the_summary(whole, texts):
    """± is half the t-interval over training seeds."""
    rows = {(row["variant"], row["attack"], row["epsilon"]): row for row in summarize(whole.evaluations).to_pylist()}
    row = rows["softmax", "worst:linf", 0.1]
    half = f"{50 * (row['t_high'] - row['t_low']):.1f}"
    assert rf"\newcommand{{\DigitsSoftmaxWorstLinfAtZeroPointOneSpread}}{{{half}}}" in texts["macros.tex"]
    line = next(line for line in texts["table.md"].splitlines() if line.startswith("| softmax"))
    assert f"{100 * row['robust_accuracy']:.1f} ± {half}" in line.replace("**", "")


def test_one_seed_has_the_interval_over_samples(tmp_path):
    """With one seed the Wilson interval is used, and a note says so."""
    made = synthetic.write_experiment(tmp_path, synthetic.plan(seeds=(0,)), samples=50)
    text = render_tables(inputs_of(made))["table.md"]
    assert re.search(r"\d \\\[\d+\.\d, \d+\.\d\\\]", text)
    assert "Wilson interval over samples, of one training seed" in text
    assert "t-interval" not in text


def test_means_and_standard_deviations_can_be_read_off(whole, texts, tmp_path, monkeypatch):
    """The query of docs/tables.md gives "mean (std)" of every variant and column, over training seeds."""
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table.csv").write_text(texts["table.csv"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    pivoted = duckdb.sql(page.split("```sql")[1].split("```")[0]).to_df()
    found = {row["variant"]: row for row in pivoted.to_dict("records")}
    rows = pq.read_table(whole.evaluations).to_pylist()
    for variant in synthetic.VARIANTS:
        shares = []
        for seed in (0, 1, 2):
            of_seed = [row for row in rows if (row["variant"], row["attack"], row["seed"]) == (variant, "cw", seed)]
            shares.append(np.mean([row["epsilon"] is None or row["epsilon"] > 0.3 for row in of_seed]))
        text = f"{100 * np.mean(shares):.1f} ({100 * np.std(shares, ddof=1):.1f})"
        assert found[variant]["cw l2 0.3"] == text
    with_accuracy = [row for row in csv.DictReader(io.StringIO(texts["table.csv"])) if row["accuracy"]]
    assert all(float(row["training_std"]) >= 0 for row in with_accuracy)


def test_attack_seeds_are_one_column(whole, texts):
    """Repetitions of an attack share a column: their mean, and the spread of each kind of seed."""
    rows = [row for row in csv.DictReader(io.StringIO(texts["table.csv"])) if row["name"] == "seeds:pgd"]
    assert {row["attack_seeds"] for row in rows} == {"2"}
    assert all(float(row["attack_std"]) > 0 for row in rows)
    assert not any(row["name"] in ("pgd", "pgd_1") for row in csv.DictReader(io.StringIO(texts["table.csv"])))
    single = {(r["variant"], r["attack"]): r for r in summarize(whole.evaluations).to_pylist() if r["epsilon"] == 0.1}
    for row in rows:
        both = [single[row["variant"], attack]["robust_accuracy"] for attack in ("pgd", "pgd_1")]
        assert float(row["accuracy"]) == pytest.approx(np.mean(both))


def test_bold_is_significantly_above_every_other(whole):
    """The best number of a column is bold only if all comparisons are significant and it is not flagged."""
    inputs = inputs_of(whole)
    content = read_table_content(inputs)
    compared = inputs.comparisons.to_pylist()
    bold = 0
    for column in content.columns:
        numbers = {one: content.cells[one, column].accuracy for one in content.design.variants}
        numbers = {one: value for one, value in numbers.items() if value is not None}
        best = max(numbers, key=numbers.get)
        of = [
            row
            for row in compared
            if (row["measure"], row["name"], row["epsilon"]) == (column.measure, column.name, column.epsilon)
            and best in (row["variant"], row["other"])
        ]
        doubtful = bool(content.cells[best, column].flags)
        certain = all(row["significant"] and row["t_significant"] for row in of)
        expected = len(numbers) > 1 and certain and not doubtful
        assert {one for one in numbers if content.cells[one, column].best} == ({best} if expected else set()), column
        bold += expected
    assert 0 < bold < len(content.columns)
    texts = render_tables(inputs)
    assert texts["table.tex"].count(r"\textbf") == texts["table.md"].count("**") / 2 == bold
    doubtful = pa.Table.from_pylist(
        [row | {"significant": False} if row["other"] == "lipschitz" else row for row in compared],
        schema=inputs.comparisons.schema,
    )
    unsure = read_table_content(replace(inputs, comparisons=doubtful))
    assert not any(cell.best for cell in unsure.cells.values() if cell.applies and cell.accuracy is not None)


def test_a_tie_at_the_top_has_no_bold(tmp_path):
    """Of two equal variants neither is best, however bad the third."""
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0,), (AttackDesign("pgd", "linf", (0.1,)),))
    made = synthetic.write_experiment(tmp_path, replace(plan, certificates=()), samples=100)
    inputs = TableInputs(
        made.evaluations,
        summarize(made.evaluations),
        compare_variants(made.evaluations),
        CERTIFIED_SCHEMA.empty_table(),
    )
    rows = [
        row | {"robust_accuracy": 0.9 if row["variant"] != "softmax" else 0.1} for row in inputs.summary.to_pylist()
    ]
    compared = [
        row | {"significant": "softmax" in (row["variant"], row["other"]), "difference": -1.0}
        for row in inputs.comparisons.to_pylist()
    ]
    tied = replace(
        inputs,
        summary=pa.Table.from_pylist(rows, schema=inputs.summary.schema),
        comparisons=pa.Table.from_pylist(compared, schema=inputs.comparisons.schema),
    )
    content = read_table_content(tied)
    assert not any(cell.best for (_, column), cell in content.cells.items() if column.measure == "robust")


def test_robust_accuracies_without_diagnostics_are_not_bold(whole):
    """They may be too high; clean accuracy may be bold."""
    inputs = inputs_of(whole)
    silent = inputs.summary.set_column(
        inputs.summary.column_names.index("flags"), "flags", pa.nulls(len(inputs.summary), pa.string())
    )
    best = {column.measure for (_, column), cell in read_table_content(inputs).cells.items() if cell.best}
    undiagnosed = replace(inputs, summary=silent)
    left = {column.measure for (_, column), cell in read_table_content(undiagnosed).cells.items() if cell.best}
    assert left == best - {"robust"} != best
    assert "a number that was not diagnosed is not bold" in render_tables(undiagnosed)["table.md"]


def test_columns_with_missing_cells_are_marked_and_have_no_bold(tmp_path):
    """A missing cell marks its number, and a missing attack is a dash."""
    plan = synthetic.plan(attacks=ATTACKS[:4])
    gone = {("softmax", 0, "spsa"), *(("ecc", seed, "spsa") for seed in plan.seeds)}
    absent = [cell for cell in synthetic.cells(plan) if (cell.variant, cell.seed, cell.name) in gone]
    made = synthetic.write_experiment(tmp_path, plan, samples=50, absent=absent)
    content, text = read_table_content(inputs_of(made)), render_tables(inputs_of(made))["table.md"]
    spsa = next(column for column in content.columns if column.name == "spsa")
    assert content.cells["softmax", spsa].missing == 1
    assert content.cells["ecc", spsa].accuracy is None
    for column in content.columns:
        lacking = any(content.cells[one, column].missing for one in plan.variants)
        assert not lacking or not any(content.cells[one, column].best for one in plan.variants)
    assert "—: every cell is missing." in text
    assert "\\* cells are missing: may be too high." in text
    assert "n/a: not for this variant." in text
    assert len(re.findall(r"\| —", text)) == 1


def test_certificates_of_which_every_cell_is_missing_have_columns(tmp_path):
    """At the headline radius, with the sign of missing numbers: a table without them looks like none were planned."""
    plan = grid_plan((2,), attacks=ATTACKS[:1])
    plan = replace(plan, headline={"linf": (0.1,), "l2": (0.3,)})
    made = synthetic.write_experiment(tmp_path, plan, samples=30)
    write_table(made.certificates, CERTIFICATE_SCHEMA.empty_table(), plan.metadata())
    files = {path.name: path for path in tables_from_results(made.evaluations, tmp_path / "tables")}
    text = files["table.md"].read_text(encoding="utf-8")
    assert "L2 smooth certified r = 0.3" in text
    assert text.count("| —") == len(plan.variants)
    assert "—: every cell is missing." in text
    lines = csv.DictReader(io.StringIO(files["table.csv"].read_text(encoding="utf-8")))
    cells = [row for row in lines if row["measure"] == "certified"]
    assert [row["missing"] for row in cells] == ["3"] * len(plan.variants)


def test_flags_and_errors_have_marks_with_footnotes(tmp_path):
    """‡ marks the flagged variant and norm, † numbers with errors, each explained."""
    plan = replace(synthetic.plan(attacks=(ATTACKS[3], ATTACKS[7])), certificates=())
    files = synthetic.write_evaluations(tmp_path, plan, samples=50, errors={"noise": 2})
    combine(files, tmp_path / "evaluations.parquet", design=plan)
    path = tmp_path / "evaluations.parquet"
    inputs = TableInputs(path, summarize(path, flags=FLAGS), compare_variants(path), CERTIFIED_SCHEMA.empty_table())
    texts = render_tables(inputs)
    lines = {line.split(" |")[0][2:]: line for line in texts["table.md"].splitlines() if line.startswith("| ")}
    assert lines["lipschitz"].count("‡") == 2  # spsa and the worst case in linf; clean and l2 are not in doubt
    assert lines["softmax"].count("‡") == 0
    assert lines["softmax"].count("†") == 2
    assert "‡ gradients look masked" in texts["table.md"]
    assert "† samples with errors count as fooled" in texts["table.md"]
    assert len(re.findall(r"(?<!phantom\{)\$\^\{\\ddag\}", texts["table.tex"])) == 2
    unknown = render_tables(replace(inputs, summary=summarize(path)))
    assert "Not diagnosed: gradients may be masked." in unknown["table.md"]


def braces_balance(text):
    """Return whether all unescaped braces of LaTeX are balanced."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text.replace(r"\\", "")):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def test_the_latex_is_well_formed(texts):
    """Braces balance, rows have one cell per column, and special characters are escaped."""
    text = texts["table.tex"]
    assert braces_balance(text)
    assert text.startswith("% gauntlet-cell:sha256:0\n")
    columns = len(re.search(r"\{@\{\}l(r+)@\{\}\}", text)[1])
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 3 + 4
    for row in rows:
        spans = [int(width) for width in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert len(re.findall(r"(?<!\\)&", row)) + sum(spans) - len(spans) == columns
        assert not re.match(r"\s*[\[*]", row)
    assert r"FGSM, 100 \% \& \textless{}more\textgreater{}\_\{x\}" in text
    assert r"4 $\times$ ECC {[}ours{]} {*} \textasciitilde{}$\varepsilon$" in text
    unescaped = re.sub(r"\\[%&#_${}]", "", "\n".join(text.splitlines()[2:]))
    assert not re.search(r"[%#]", unescaped)
    assert unescaped.count("$") % 2 == 0


@pytest.mark.parametrize("letter", [chr(code) for code in range(32, 127)] + list("εωϕΔ∞—±≤→√²₂·ℓ"))
def test_every_character_of_a_title_is_escaped(letter):
    """Each character is printed as it is, and braces balance."""
    written = escape_latex(f"a{letter}b")
    assert braces_balance(written)
    assert not re.search(r"(?<!\\)[&%#_~^]", written)
    assert written.isascii()


def run_latex(folder, document):
    """Compile a document in a folder; return LaTeX's output."""
    if not shutil.which("pdflatex"):
        # Set by .ci/run: there, a test that is not run has failed.
        (pytest.fail if os.environ.get("GAUNTLET_TEST_LATEX") else pytest.skip)(
            "no LaTeX: tests/support/install/latex.sh"
        )
    (folder / "paper.tex").write_text(document)
    done = subprocess.run(["pdflatex", "-halt-on-error", "paper"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def compiled(folder, texts, macro):
    """Compile the table and the macros in a minimal document with booktabs; return LaTeX's output."""
    for name in ("table.tex", "macros.tex"):
        (folder / name).write_text(texts[name])
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage[margin=1in]{geometry}\input{macros}"
    body = rf"\begin{{table}}\input{{table}}\end{{table}}\{macro}"
    return run_latex(folder, rf"{head}\begin{{document}}{body}\end{{document}}")


@pytest.mark.slow
def test_the_latex_compiles(tmp_path, texts):
    """The titles have every character special to LaTeX."""
    compiled(tmp_path, texts, "DigitsSoftmaxClean")


@pytest.mark.slow
def test_eleven_columns_fit_on_a_page(tmp_path):
    """With short names they fit between margins of an inch."""
    attacks = [AttackDesign(f"fgsm_{letter}", "linf", (0.1,)) for letter in "abcde"]
    plan = synthetic.plan(attacks=(*attacks, AttackDesign("ddn", "l2", None)))
    texts = render_tables(inputs_of(synthetic.write_experiment(tmp_path, plan, samples=30)))
    assert r"{@{}l" + "r" * 11 + "@{}}" in texts["table.tex"]
    assert "Overfull" not in compiled(tmp_path, texts, "DigitsSoftmaxClean")


def test_digits_are_aligned(texts):
    """Numbers without a mark leave room for it."""
    body = texts["table.tex"].partition("\\midrule")[2].partition("\\bottomrule")[0]
    rows = [line.removesuffix(r" \\").split(" & ")[1:] for line in body.strip().splitlines()]
    marked = [[r"\ddag}$" in cell for cell in column] for column in zip(*rows, strict=True)]
    assert any(map(any, marked))
    assert all(all(column) or not any(column) for column in marked)


def test_macros_have_legal_and_unique_names(texts):
    """Names are letters only, with digits spelled out."""
    names = re.findall(r"\\newcommand\{\\(.*?)\}", texts["macros.tex"])
    assert len(names) == len(set(names)) > 40
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in names)
    assert "DigitsHydraEccPgdLTwoAtZeroPointThree" in names
    assert macro_name("e2", "v_10", Column("certified", "cap", "l2", 1e-05, "")) == (
        "ETwoVOneZeroCertifiedCapRadiusOneEMinusZeroFive"
    )


def test_two_numbers_with_one_name_are_refused(tmp_path):
    """Names that differ in a dash only would give one macro two values."""
    plan = synthetic.plan(("a-b", "a_b"), (0,), ATTACKS[3:4])
    made = synthetic.write_experiment(tmp_path, plan, samples=10)
    with pytest.raises(InputError, match=r"\\DigitsABClean: of a-b, clean and of a_b, clean; rename"):
        render_tables(inputs_of(made))


def test_the_same_inputs_give_the_same_bytes(whole, texts):
    """The order in which threads finish does not matter."""
    for _ in range(3):
        assert render_tables(inputs_of(whole), mark="gauntlet-cell:sha256:0") == texts


def test_the_headline_budget_is_configured_or_most_shared():
    """The default is the budget of most attacks, the middle one of several."""
    grids = {"linf": (0.01, 0.03, 0.1, 0.3, 1.0), "l2": synthetic.L2}
    plan = synthetic.plan(attacks=ATTACKS)
    assert headline_budgets(plan, grids) == {"linf": (0.1,), "l2": (0.3,)}
    asked = replace(plan, headline={"l2": (3.0, 0.1)})
    assert headline_budgets(asked, grids) == {"linf": (0.1,), "l2": (0.1, 3.0)}
    in_pixels = {**grids, "linf": (0.0999951, 0.3)}
    assert headline_budgets(replace(plan, headline={"linf": (0.1,)}), in_pixels)["linf"] == (0.0999951,)


def test_a_certificate_in_a_norm_without_attacks_is_at_its_headline_radius(tmp_path):
    """The configured one, in the tables from results alone too, not the middle one of the measured radii."""
    plan = replace(synthetic.plan(("softmax",), (0, 1), synthetic.ATTACKS[:2]), headline={"l2": (0.37,)})
    made = synthetic.write_experiment(tmp_path, plan, samples=40)
    assert headline_budgets(plan, {"linf": synthetic.LINF}) == {"linf": (0.03,), "l2": (0.37,)}
    tables_from_results(made.evaluations, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text(encoding="utf-8"))))
    assert {row["epsilon"] for row in rows if row["measure"] == "certified"} == {"0.37"}


def test_the_headline_of_minimum_norm_attacks_has_columns(tmp_path):
    """Their worst case follows at every budget, in the table, the summary and the heat map, though they have none."""
    attacks = (AttackDesign("pgd", "linf", synthetic.LINF), AttackDesign("ddn", "l2", None))
    plan = replace(synthetic.plan(("softmax", "ecc"), (0, 1), attacks), headline={"linf": (0.1,), "l2": (0.4321,)})
    made = synthetic.write_experiment(tmp_path, plan, samples=40)
    inputs = inputs_of(made)
    text = render_tables(inputs)["table.md"]
    assert "other budgets" not in text
    assert "| L2 ddn ε = 0.4321 | L2 worst case ε = 0.4321 |" in text
    rows = [row for row in pq.read_table(made.evaluations).to_pylist() if row["attack"] == "ddn"]
    for variant in plan.variants:
        of = [row["epsilon"] for row in rows if row["variant"] == variant]
        share = np.mean([epsilon is None or epsilon > 0.4321 for epsilon in of])
        for attack in ("ddn", "worst:l2"):
            (found,) = (
                row["robust_accuracy"]
                for row in inputs.summary.to_pylist()
                if (row["variant"], row["attack"], row["epsilon"]) == (variant, attack, 0.4321)
            )
            assert found == pytest.approx(share)
    figure = draw("heat_map", FigureInputs(plan.variants, made.evaluations, made.summary))
    assert not any(np.ma.getmaskarray(image.get_array()).any() for image in figure.axes[0].images)


def test_attacks_without_a_column_are_named(texts):
    """Attacks run at other budgets only are listed."""
    assert "Run at other budgets only: rubbish." in texts["table.md"]


def test_tables_from_results_alone_load_no_torch(whole, tmp_path):
    """A separate process writes the tables from evaluations.parquet and the files around it."""
    code = (
        "import sys; from pathlib import Path; from gauntlet.reporting.from_results import tables_from_results;"
        f"tables_from_results(Path({str(whole.evaluations)!r}), Path('out'));"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    wanted = render_tables(replace(inputs_of(whole), summary=summarize(whole.evaluations)))
    assert {name: (tmp_path / "out" / name).read_text() for name in FILES} == wanted


def test_an_experiment_without_attacks_has_an_empty_table(tmp_path):
    """The table states that nothing was measured."""
    plan = replace(synthetic.plan(attacks=()), certificates=())
    write_table(tmp_path / "evaluations.parquet", EVALUATION_SCHEMA.empty_table(), plan.metadata())
    files = tables_from_results(tmp_path / "evaluations.parquet", tmp_path / "out")
    assert "Nothing was measured." in files[0].read_text()


def test_a_file_without_a_plan_has_tables_too(whole, tmp_path):
    """The plan is derived from the rows."""
    pq.write_table(pq.read_table(whole.evaluations).replace_schema_metadata(None), tmp_path / "rows.parquet")
    files = tables_from_results(tmp_path / "rows.parquet", tmp_path / "out")
    assert r"\newcommand{\DigitsSoftmaxClean}" in files[1].read_text()
