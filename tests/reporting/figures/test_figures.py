"""Figures show the numbers of the tables."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_hex
from safetensors.numpy import load_file, save_file

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_table, write_table
from gauntlet.reporting import from_results as stage
from gauntlet.reporting.aggregation import AttackDesign, measure_coverage, open_evaluations, summarize
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.heat_map import common_budget
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs, HistoryFile
from gauntlet.reporting.figures.style import line_style
from gauntlet.robustness.diagnostics.checks import add_verdicts
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic

LOSSES = {"softmax": "cross_entropy", "lipschitz": "hkr"}


def _inputs(made):
    histories = (HistoryFile(*key, path, LOSSES.get(key[0], "hinge")) for key, path in made.histories.items())
    examples = (ExamplesFile(*key, path) for key, path in made.examples.items())
    files = made.evaluations, made.summary, made.certificates
    return FigureInputs(made.plan.variants, *files, tuple(histories), tuple(examples))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Write results of three variants, two seeds and five attacks in two norms."""
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), synthetic.ATTACKS[:5])
    return _inputs(synthetic.write_experiment(tmp_path_factory.mktemp("experiment"), plan, samples=80))


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    """Write the same results with three seeds."""
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1, 2), synthetic.ATTACKS[:5])
    return _inputs(synthetic.write_experiment(tmp_path_factory.mktemp("three"), plan, samples=80))


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """An experiment with a missing cell."""
    plan = synthetic.plan(("softmax", "ecc"), (0, 1), synthetic.ATTACKS[:2])
    absent = [cell for cell in synthetic.cells(plan) if (cell.variant, cell.seed, cell.name) == ("ecc", 0, "pgd")]
    return _inputs(synthetic.write_experiment(tmp_path_factory.mktemp("gapped"), plan, samples=80, absent=absent))


def _texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def _summary(inputs, **wanted):
    rows = read_table(inputs.summary).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _lines(axes, variant, inputs):
    color = line_style(inputs.variants, variant)["color"]
    return [line for line in axes.lines if to_hex(line.get_color()) == color.lower()]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("variant", ["softmax", "ecc", "lipschitz"])
def test_curves_are_the_worst_case_of_the_summary(three_seeds, norm, variant):
    """A bold line has the clean accuracy and every worst case; the band is the t-interval, of equal seeds Wilson's."""
    axes = draw("robust_accuracy", three_seeds).axes[["linf", "l2"].index(norm)]
    rows = _summary(three_seeds, variant=variant, attack=f"worst:{norm}")
    bold = max(_lines(axes, variant, three_seeds), key=lambda line: line.get_linewidth())
    np.testing.assert_allclose(bold.get_xdata(), [0.0] + [row["epsilon"] for row in rows])
    expected = [rows[0]["clean_accuracy"]] + [row["robust_accuracy"] for row in rows]
    np.testing.assert_allclose(bold.get_ydata(), 100 * np.array(expected))
    bands = [band.get_paths()[0].vertices for band in axes.collections]
    edges = {
        (round(row["epsilon"], 6), round(100 * min(1, max(0, row[f"{kind}_{end}"])), 6))
        for row in rows
        for kind in ("wilson" if row["t_low"] is None else "t",)
        for end in ("low", "high")
    }
    assert any(edges <= {(round(x, 6), round(y, 6)) for x, y in band} for band in bands)


def test_single_attacks_are_thin_lines_that_can_be_left_out(inputs):
    """Every attack with a curve is drawn unless an option leaves it out."""
    axes = draw("robust_accuracy", inputs).axes[1]
    assert len(_lines(axes, "ecc", inputs)) == 1 + 2  # the worst case, pgd_l2, cw
    axes = draw("robust_accuracy", inputs, options={"attacks": False}).axes[1]
    assert len(_lines(axes, "ecc", inputs)) == 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_single_attack_is_drawn_below_the_worst_case(inputs, norm):
    """A line is broken at budgets at which the attack was not run; a single budget is a mark."""
    axes = draw("robust_accuracy", inputs).axes[["linf", "l2"].index(norm)]
    for variant in inputs.variants:
        bold, *thin = sorted(_lines(axes, variant, inputs), key=lambda line: -line.get_linewidth())
        for line in thin:
            known = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
            worst = dict(zip(*bold.get_data(), strict=True))
            assert line.get_linestyle() == "None" or list(known) == list(worst)
            assert all(not known[x] < worst[x] for x in known)


def test_one_seed_gets_a_band_over_samples(tmp_path):
    """With one seed the band is the Wilson interval."""
    plan = synthetic.plan(("softmax",), (0,), synthetic.ATTACKS[1:2])
    inputs = _inputs(synthetic.write_experiment(tmp_path, plan, samples=40))
    band = draw("robust_accuracy", inputs).axes[0].collections[0].get_paths()[0].vertices[:, 1]
    for row in _summary(inputs, attack="worst:linf"):
        assert np.isclose(band, 100 * row["wilson_low"]).any()
        assert np.isclose(band, 100 * row["wilson_high"]).any()


@pytest.mark.parametrize("name", ["robust_accuracy", "heat_map"])
def test_missing_cells_are_marked_and_explained(gapped, inputs, name):
    """A number without a cell has a mark, explained in the note."""
    assert any("cells are missing" in text for text in _texts(draw(name, gapped)))
    assert any(text.endswith("*") for text in _texts(draw(name, gapped)))
    assert not any("*" in text for text in _texts(draw(name, inputs)))


def test_heat_map_prints_the_summary_at_the_common_budget(inputs):
    """Each field has its number, and the budget is above the norm's group."""
    figure = draw("heat_map", inputs, options={"epsilon": 0.1})
    texts = _texts(figure)
    for row in _summary(inputs, epsilon=0.1):
        assert f"{100 * row['robust_accuracy']:.1f}" in texts
    assert sum("ε = 0.1" in text for text in texts) == 2
    axes = figure.axes[0]
    images = [np.asarray(image.get_array()).ravel() for image in axes.images]
    clean = [_summary(inputs, variant=variant)[0]["clean_accuracy"] for variant in inputs.variants]
    np.testing.assert_allclose(images[0], 100 * np.array(clean))
    worst = [_summary(inputs, variant=name, attack="worst:linf", epsilon=0.1) for name in inputs.variants]
    np.testing.assert_allclose(images[1], [100 * row[0]["robust_accuracy"] for row in worst])


def test_the_heat_map_has_the_headline_of_rounded_budgets(tmp_path):
    """Budgets in normalized units are close to a headline in pixels: the figure is at those of the tables."""
    grid = (0.0099953, 0.0999532)
    plan = synthetic.plan(("softmax", "ecc"), (0, 1), (AttackDesign("pgd", "linf", grid),))
    made = synthetic.write_experiment(tmp_path, replace(plan, headline={"linf": (0.1,)}), samples=40)
    inputs = FigureInputs(plan.variants, made.evaluations, made.summary)
    texts = _texts(draw("heat_map", inputs))
    assert "–" not in texts
    for row in _summary(inputs, epsilon=grid[1]):
        assert f"{100 * row['robust_accuracy']:.1f}" in texts
    assert texts == _texts(draw("heat_map", inputs, options={"epsilon": 0.1}))


def test_an_attack_without_the_budget_is_left_blank(inputs):
    """A dash replaces SPSA's number at 0.3, since it ran at 0.1 only."""
    texts = _texts(draw("heat_map", inputs, options={"epsilon": 0.3}))
    assert texts.count("–") == len(inputs.variants)


def test_the_default_budget_is_one_that_attacks_share(inputs):
    """The default budget is one that every attack of the norm was run at."""
    assert common_budget(_summary(inputs), "linf") == 0.1
    assert common_budget([], "linf") == 0.0


def test_training_curves_are_means_over_seeds(inputs):
    """The mean is up to the first seed's last epoch, and losses of a kind share a panel."""
    figure = draw("training_curves", inputs)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles == [
        "Validation loss: cross_entropy",
        "Validation loss: hinge",
        "Validation loss: hkr",
        "Validation accuracy (%)",
        "KR term",
    ]
    accuracy = figure.axes[3]
    for variant in inputs.variants:
        runs = [read_table(item.path)["validation_accuracy"].to_numpy() for item in inputs.histories]
        mine = [run for run, item in zip(runs, inputs.histories, strict=True) if item.variant == variant]
        common = min(map(len, mine))
        expected = 100 * np.mean([run[:common] for run in mine], axis=0)
        drawn = [line for line in _lines(accuracy, variant, inputs) if line.get_marker() not in ("", "None")]
        np.testing.assert_allclose(drawn[0].get_ydata(), expected)
        assert drawn[0].get_xdata()[0] == 1
    assert [bool(_lines(figure.axes[4], name, inputs)) for name in inputs.variants] == [False, False, True]


def test_accuracy_under_attack_has_a_panel_where_a_variant_was_trained_against_one(inputs, tmp_path):
    """It shows adversarially trained variants only, in percent."""
    histories = []
    for item in inputs.histories:
        if item.variant == "ecc":
            table = read_table(item.path)
            column = table.column_names.index("robust_validation_accuracy")
            values = pc.multiply(table["validation_accuracy"], 0.5)
            path = tmp_path / f"{item.seed}.parquet"
            write_table(path, table.set_column(column, "robust_validation_accuracy", values), {})
            item = replace(item, path=path)
        histories.append(item)
    figure = draw("training_curves", replace(inputs, histories=tuple(histories)))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    clean, robust = panels["Validation accuracy (%)"], panels["Robust validation accuracy (%)"]
    assert [bool(_lines(robust, name, inputs)) for name in inputs.variants] == [False, True, False]
    pairs = zip(_lines(clean, "ecc", inputs), _lines(robust, "ecc", inputs), strict=True)
    for whole, half in pairs:
        np.testing.assert_allclose(half.get_ydata(), whole.get_ydata() / 2)


def test_accuracies_under_different_attacks_have_panels_of_their_own(inputs, tmp_path):
    """Each panel names attack and budget, and shows the variants measured under it."""
    histories = []
    for item in inputs.histories:
        table = read_table(item.path)
        column = table.column_names.index("robust_validation_accuracy")
        path = tmp_path / f"{item.variant}-{item.seed}.parquet"
        write_table(path, table.set_column(column, "robust_validation_accuracy", table["validation_accuracy"]), {})
        opponent = "gaussian 0.25" if item.variant == "lipschitz" else "fgsm linf 0.01"
        histories.append(replace(item, path=path, adversary=opponent))
    figure = draw("training_curves", replace(inputs, histories=tuple(histories)))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    drawn = {
        opponent: [bool(_lines(panels[f"Accuracy under {opponent} (%)"], name, inputs)) for name in inputs.variants]
        for opponent in ("fgsm linf 0.01", "gaussian 0.25")
    }
    assert drawn == {"fgsm linf 0.01": [True, True, False], "gaussian 0.25": [False, False, True]}


def test_collapsed_epochs_have_a_cross_and_break_the_line_only_where_nothing_was_measured(inputs, tmp_path):
    """The mean continues with the other seeds."""
    histories = []
    for item in inputs.histories:
        if item.variant == "ecc":
            rows = read_table(item.path).to_pylist()
            for row in rows:
                row["collapsed"] = row["epoch"] == 2 and item.seed == 0
                row["validation_loss"] = None if row["collapsed"] else row["validation_loss"]
            path = tmp_path / f"{item.seed}.parquet"
            write_table(path, pa.Table.from_pylist(rows), {})
            item = replace(item, path=path)
        histories.append(item)
    figure = draw("training_curves", replace(inputs, histories=tuple(histories)))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    crosses = [line for line in panels["Validation accuracy (%)"].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[2]]
    assert to_hex(crosses[0].get_color()) == line_style(inputs.variants, "ecc")["color"].lower()
    runs = [read_table(item.path)["validation_loss"].to_numpy() for item in histories if item.variant == "ecc"]
    bold = max(_lines(panels["Validation loss: hinge"], "ecc", inputs), key=lambda line: line.get_linewidth())
    assert len(bold.get_xdata()) == min(map(len, runs))
    assert bold.get_ydata()[1] == pytest.approx(np.mean([run[1] for run in runs[1:]]))


def test_a_long_name_of_a_loss_takes_a_second_line(inputs):
    """The options of a loss are not cut off at the panel's edge."""
    long = "cross_entropy, label_smoothing 0.1"
    histories = tuple(replace(item, loss=long) if item.loss == "hinge" else item for item in inputs.histories)
    titles = [axes.get_title(loc="left") for axes in draw("training_curves", replace(inputs, histories=histories)).axes]
    assert titles[1] == "Validation loss: cross_entropy,\nlabel_smoothing 0.1"


def test_epochs_after_a_seed_has_stopped_are_drawn_apart(inputs):
    """The mean of fewer seeds is a separate line."""
    axes = draw("training_curves", inputs).axes[0]
    bold, pale = sorted(_lines(axes, "softmax", inputs), key=lambda line: -line.get_linewidth())
    lengths = [len(read_table(item.path)) for item in inputs.histories if item.variant == "softmax"]
    assert bold.get_xdata()[-1] == min(lengths)
    assert (pale.get_xdata()[0], pale.get_xdata()[-1]) == (min(lengths), max(lengths))


def test_certificates_are_drawn_against_the_smallest_distance(inputs):
    """Each certified and fooled sample is a point: radius and smallest distance over the norm's attacks.

    Smoothed classifiers were not attacked: their radii are beyond distances that fooled the model, and are not drawn.
    """
    axes = draw("certificate_distance", inputs).axes[0]
    points = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections if len(c.get_offsets()) > 1])
    nearest = {}
    for row in pq.read_table(inputs.evaluations).to_pylist():
        key = row["variant"], row["seed"], row["index"]
        if row["norm"] == "l2" and row["status"] == "adversarial":
            nearest[key] = min(row["l2"], nearest.get(key, np.inf))
    expected = []
    for row in pq.read_table(inputs.certificates).to_pylist():
        key = row["variant"], row["seed"], row["index"]
        if row["certificate"] == "margin" and row["status"] == "certified" and key in nearest:
            expected.append((row["radius"], nearest[key]))
    assert len(expected) > 100
    np.testing.assert_allclose(np.array(sorted(map(tuple, points))), np.array(sorted(expected)), rtol=1e-6)


def _share(inputs, certificate, variant, holds):
    rows = pq.read_table(inputs.certificates).to_pylist()
    mine = [row for row in rows if (row["certificate"], row["variant"]) == (certificate, variant)]
    return 100 * sum(map(holds, mine)) / len(mine)


def test_certified_curves_are_counts_that_never_exceed_the_truth(inputs):
    """Each marked radius has the certified share; between two, the lower one is drawn."""
    margin, smooth = draw("certified_accuracy", inputs).axes[:2]
    for axes, certificate, variant in (
        (margin, "margin", "lipschitz"),
        (smooth, "smooth", "lipschitz"),
        (smooth, "smooth", "ecc"),
    ):
        bold = max(_lines(axes, variant, inputs), key=lambda line: line.get_linewidth())
        assert bold.get_drawstyle() == "steps-pre"
        radius, share = bold.get_xdata(), bold.get_ydata()
        assert share[-1] == 0.0
        certified = _share(inputs, certificate, variant, lambda row: row["status"] == "certified")
        assert share[0] == pytest.approx(certified)
        for at in (20, 77, 150):
            true = _share(inputs, certificate, variant, lambda row, least=radius[at]: row["radius"] >= least)
            assert share[at] == pytest.approx(true)
    assert [axes.get_title(loc="left") for axes in (margin, smooth)] == ["margin", "smooth (smoothed classifier)"]
    assert _lines(margin, "softmax", inputs) == []


def test_attacks_are_drawn_with_certificates_of_the_model_only(inputs):
    """A smoothed classifier has no line of attacks, since it was not attacked."""
    margin, smooth = draw("certified_accuracy", inputs).axes[:2]
    assert [len(_lines(axes, "lipschitz", inputs)) for axes in (margin, smooth)] == [2, 1]
    thin = min(_lines(margin, "lipschitz", inputs), key=lambda line: line.get_linewidth())
    bold = max(_lines(margin, "lipschitz", inputs), key=lambda line: line.get_linewidth())
    assert (thin.get_ydata() >= bold.get_ydata()).all()
    broken = {}
    for row in pq.read_table(inputs.evaluations).to_pylist():
        if row["variant"] == "lipschitz" and row["norm"] == "l2":
            key = row["seed"], row["index"]
            broken[key] = min(np.inf if row["epsilon"] is None else row["epsilon"], broken.get(key, np.inf))
    for at in (0, 20, 77):
        unfooled = np.mean([value > thin.get_xdata()[at] for value in broken.values()])
        assert thin.get_ydata()[at] == pytest.approx(100 * unfooled)


def test_refuted_certificates_are_counted(inputs, tmp_path):
    """The figure states the number of radii above the distance."""
    table = pq.read_table(inputs.certificates)
    assert any("0 refuted" in text for text in _texts(draw("certificate_distance", inputs)))
    radius = np.where(np.array(table["status"].to_pylist()) == "certified", 1e3, 0.0)
    write_table(
        tmp_path / "c.parquet", table.set_column(table.schema.get_field_index("radius"), "radius", [radius]), {}
    )
    texts = _texts(draw("certificate_distance", replace(inputs, certificates=tmp_path / "c.parquet")))
    assert any("refuted" in text and " 0 refuted" not in text for text in texts if "certified samples" in text)


def test_certificates_of_smoothed_classifiers_only_give_a_sentence(inputs, tmp_path):
    """There are no empty axes."""
    table = pq.read_table(inputs.certificates)
    only = table.filter(pc.equal(table["certificate"], "smooth"))
    assert 0 < len(only) < len(table)
    write_table(tmp_path / "c.parquet", only, {})
    figure = draw("certificate_distance", replace(inputs, certificates=tmp_path / "c.parquet"))
    (axes,) = figure.axes
    assert not axes.axison
    assert not axes.collections
    texts = _texts(figure)
    assert any("nothing can be compared" in text for text in texts)
    assert any("left out, not of the attacked model: smooth" in text for text in texts)
    assert not any("refuted" in text for text in texts)


def test_certified_samples_that_no_attack_fooled_are_counted_in_a_sentence(inputs, tmp_path):
    """They have no distance to be drawn at."""
    plan = synthetic.plan(("softmax", "lipschitz"), (0,), synthetic.ATTACKS[:1])
    made = _inputs(synthetic.write_experiment(tmp_path, plan, samples=30))
    table = pq.read_table(made.certificates)
    certified = pc.sum(
        pc.and_(pc.equal(table["status"], "certified"), pc.equal(table["certificate"], "margin"))
    ).as_py()
    assert {attack.norm for attack in plan.attacks} == {"linf"}
    texts = _texts(draw("certificate_distance", made))
    assert any(f"{certified} certified samples." in text for text in texts)
    assert any("0 refuted" in text for text in texts)


@pytest.mark.parametrize("name", ["robust_accuracy", "heat_map", "coverage"])
def test_a_note_explains_missing_diagnostics(inputs, tmp_path, name):
    """With diagnostics there is no such note."""
    assert any("not diagnosed" in text for text in _texts(draw(name, inputs)))
    write_table(tmp_path / "summary.parquet", summarize(inputs.evaluations, flags={}), {})
    diagnosed = replace(inputs, summary=tmp_path / "summary.parquet")
    assert not any("not diagnosed" in text for text in _texts(draw(name, diagnosed)))


def test_diagnostics_are_read_from_the_folder_of_the_results_file(inputs, tmp_path, monkeypatch):
    """Without the file there, `gauntlet figures evaluations.parquet` has no diagnostics."""
    alone = tmp_path / "evaluations.parquet"
    alone.write_bytes(inputs.evaluations.read_bytes())
    seen = []
    monkeypatch.setattr(
        stage, "write_figure", lambda name, given, folder, **_: seen.append(read_table(given.summary)["flags"]) or []
    )
    stage.figures_from_results(alone, tmp_path / "figures", "heat_map")
    models = {(row["variant"], row["seed"]) for row in pq.read_table(inputs.evaluations).to_pylist()}
    passed = [Measurement.share("zero_gradients", "linf", [], 60, "none")]
    probes = [measurement_table(passed, experiment="small", variant=variant, seed=seed) for variant, seed in models]
    write_table(tmp_path / "diagnostics.parquet", add_verdicts(pa.concat_tables(probes)), {})
    stage.figures_from_results(alone, tmp_path / "figures", "heat_map")
    alone, with_diagnostics = ({*flags.to_pylist()} for flags in seen)
    assert (alone, with_diagnostics) == ({None}, {""})


def test_titles_of_examples_state_classes_distance_and_radius(inputs):
    """The model's certified radius is rounded down.

    Every variant's smoothed classifier is certified; only the Lipschitz variant's model is.
    """
    named = replace(inputs, classes=tuple(f"class{number}" for number in range(10)))
    figure = draw("adversarial_examples", named)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    kept = next(item for item in inputs.examples if item.variant == "softmax" and item.attack == "cw")
    index = int(load_file(kept.path)["index"][0])
    rows = pq.read_table(inputs.evaluations).to_pylist()
    key = {"variant": "softmax", "seed": 0, "attack": "cw", "index": index}
    row = next(row for row in rows if all(row[name] == value for name, value in key.items()))
    assert titles[0] == (rf"class{row['label']} → class{row['adversarial_prediction']}, $\ell_2$ {row['l2']:.3g}")
    assert [("cert." in title) for title in titles] == [False] * 12 + [True] * 6
    radii = [float(title.split("cert. ")[1].rstrip(")")) for title in titles[12:]]
    certified = pq.read_table(inputs.certificates)["radius"].to_numpy()
    assert all(any(0 <= true - shown < 1e-3 for true in certified) for shown in radii)


def test_examples_show_the_perturbation(inputs):
    """The third image is adversarial minus original, centered at zero."""
    figure = draw("adversarial_examples", inputs)
    original, adversarial, difference = (axes.images[0] for axes in figure.axes[:3])
    expected = np.asarray(adversarial.get_array()) - np.asarray(original.get_array())
    np.testing.assert_allclose(np.asarray(difference.get_array()), expected, atol=1e-6)
    assert difference.norm.vmin == -difference.norm.vmax == -np.abs(expected).max()
    assert (original.norm.vmin, original.norm.vmax) == (0, 1)


def test_bars_are_the_stored_probabilities(inputs, tmp_path):
    """Each sample has the five classes that are most probable in either image, in the order of the classes."""
    figure = draw("prediction_bars", inputs)
    kept = load_file(next(item for item in inputs.examples if item.variant == "softmax" and item.attack == "cw").path)
    clean, adversarial = (kept[f"{name}_probabilities"][0] for name in ("clean", "adversarial"))
    axes = figure.axes[2]
    chosen = sorted(np.argsort(-np.maximum(clean, adversarial), kind="stable")[:5].tolist())
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(label) for label in chosen]
    for bars, probabilities in zip(axes.containers, (clean, adversarial), strict=True):
        assert np.allclose([bar.get_width() for bar in bars], probabilities[chosen])
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), kept["adversarial"][0, 0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["original", "adversarial"]
    bare = tmp_path / "examples.safetensors"
    save_file({name: values for name, values in kept.items() if "probabilities" not in name}, bare)
    older = tuple(replace(item, path=bare) if item.variant == "softmax" else item for item in inputs.examples)
    assert (
        "stored without probabilities: softmax"
        in draw("prediction_bars", replace(inputs, examples=older)).get_supxlabel()
    )


def test_every_class_has_one_image_in_the_order_of_the_classes(inputs):
    """Only variants with a certificate of the model are drawn."""
    figure = draw("class_examples", replace(inputs, classes=tuple(f"class{number}" for number in range(10))))
    kept = load_file(next(item for item in inputs.examples if item.variant == "lipschitz" and item.attack == "cw").path)
    labels = pq.read_table(
        inputs.evaluations, filters=[("variant", "==", "lipschitz"), ("seed", "==", 0), ("attack", "==", "cw")]
    )
    label_of = dict(zip(labels["index"].to_pylist(), labels["label"].to_pylist(), strict=True))
    expected = sorted({label_of[index] for index in kept["index"].tolist()})
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert [int(title.partition(" ")[0].removeprefix("class")) for title in titles] == expected
    assert all("cert. " in title for title in titles)
    assert [text for text in _texts(figure) if text in inputs.variants] == ["lipschitz"]


def test_examples_of_one_attack_can_be_chosen(inputs):
    """The default is a minimum-norm attack in L2, and an unknown attack is refused."""
    assert any("attack: cw" in text for text in _texts(draw("adversarial_examples", inputs)))
    chosen = draw("adversarial_examples", inputs, options={"attack": "pgd", "rows_per_variant": 1})
    assert any("attack: pgd" in text for text in _texts(chosen))
    assert len(chosen.axes) == 3 * 3 * len(inputs.variants)
    with pytest.raises(InputError, match="known: fgsm"):
        draw("adversarial_examples", inputs, options={"attack": "none"})


def test_damaged_examples_are_refused(inputs, tmp_path):
    """A file without images is named."""
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    broken = ExamplesFile("softmax", 0, "cw", tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match="broken"):
        draw("adversarial_examples", replace(inputs, examples=(broken,)))


def test_variants_keep_their_style_and_differ_in_grayscale():
    """Colors depend on the position, and no two variants share color, line and marker."""
    variants = [f"v{number}" for number in range(40)]
    looks = [line_style(variants, name) for name in variants]
    assert len({tuple(map(str, look.values())) for look in looks}) == 40
    assert line_style(variants[:3], "v2") == looks[2]
    for one, other in itertools.pairwise(looks):
        assert one["linestyle"] != other["linestyle"]
        assert one["marker"] != other["marker"]


def test_names_are_not_read_as_mathematics(tmp_path):
    """Dollar signs in names are drawn as they are."""
    plan = synthetic.plan(("a$b$", "c_d"), (0, 1), synthetic.ATTACKS[4:5])
    inputs = _inputs(synthetic.write_experiment(tmp_path, plan, samples=30))
    for name in ("robust_accuracy", "heat_map", "training_curves", "adversarial_examples", "coverage"):
        assert any(r"a\$b\$" in text for text in _texts(draw(name, inputs)))


@pytest.mark.parametrize("name", ["robust_accuracy", "heat_map", "coverage"])
def test_an_experiment_that_measured_nothing_can_be_drawn(name, tmp_path):
    """An experiment without any cell gives an empty figure, not an error."""
    plan = synthetic.plan(("softmax",), (0,), synthetic.ATTACKS[1:2])
    inputs = _inputs(synthetic.write_experiment(tmp_path, plan, samples=30, absent=synthetic.cells(plan)))
    draw(name, inputs).canvas.draw()


def test_attacks_without_examples_are_skipped(inputs, tmp_path):
    """Another attack's images are shown, or none."""
    empty = tmp_path / "examples.safetensors"
    save_file({}, empty)
    for attacks in ({"cw"}, {item.attack for item in inputs.examples}):
        kept = tuple(replace(item, path=empty) if item.attack in attacks else item for item in inputs.examples)
        shown = draw("adversarial_examples", replace(inputs, examples=kept))
        assert bool(shown.axes) == (len(attacks) == 1)


def test_coverage_is_drawn_for_attacks_that_maximize_confidence(tmp_path):
    """There is a panel per attack and a line per variant with the points of the query."""
    attacks = [replace(item, maximizes="confidence" if item.name != "fgsm" else None) for item in synthetic.ATTACKS[:3]]
    plan = synthetic.plan(("softmax", "ecc"), (0, 1), attacks)
    inputs = _inputs(synthetic.write_experiment(tmp_path, plan, samples=60))
    figure = draw("coverage", inputs)
    assert [axes.get_title(loc="left").partition(" ")[0] for axes in figure.axes] == ["pgd", "spsa"]
    with open_evaluations(inputs.evaluations) as evaluations:
        curve = measure_coverage(evaluations, "ecc", "spsa")
    (line,) = _lines(figure.axes[1], "ecc", inputs)
    np.testing.assert_allclose(line.get_xdata(), 100 * curve.clean)
    np.testing.assert_allclose(line.get_ydata(), 100 * curve.failure)
    assert not any("not maximized" in text for text in _texts(figure))


def test_coverage_is_not_drawn_for_noise_that_perturbs_no_image(tmp_path):
    """Its images have no right answer, so that every confident answer would be a failure."""
    weak = AttackDesign("fgsm", "linf", (0.1,))
    noise = AttackDesign("rubbish", "linf", (1.0,), counts=False, synthetic=True)
    plan = synthetic.plan(("softmax",), (0,), (weak, noise))
    made = synthetic.write_experiment(tmp_path, plan, samples=40)
    accuracy = {row["attack"]: row["robust_accuracy"] for row in read_table(made.summary).to_pylist()}
    assert accuracy["rubbish"] < accuracy["fgsm"]
    (axes,) = draw("coverage", _inputs(made)).axes
    assert axes.get_title(loc="left").startswith("fgsm")


def test_noise_that_perturbs_no_image_has_no_accuracy_in_figures(tmp_path):
    """Its budget is no point of the axis, and it is no column; a note names it."""
    weak = AttackDesign("fgsm", "linf", (0.1,))
    noise = AttackDesign("rubbish", "linf", (1.0,), counts=False, synthetic=True)
    plan = synthetic.plan(("softmax",), (0,), (weak, noise))
    inputs = replace(_inputs(synthetic.write_experiment(tmp_path, plan, samples=40)), uncounted=plan.uncounted)
    (curves,) = draw("robust_accuracy", inputs).axes
    assert max(line.get_xdata()[-1] for line in curves.lines) == 0.1
    matrix = draw("heat_map", inputs)
    assert "fgsm" in _texts(matrix)
    assert "rubbish" not in _texts(matrix)
    assert any(text.startswith("rubbish: images are not") for text in _texts(matrix))


def test_coverage_without_such_an_attack_has_a_note(inputs, gapped):
    """The strongest bounded attack is drawn, and the note explains it."""
    left = {}
    for row in _summary(inputs):
        if row["attack"] in ("fgsm", "pgd", "spsa", "pgd_l2"):
            left.setdefault(row["attack"], {}).setdefault(row["epsilon"], []).append(row["robust_accuracy"])
    strongest = min(left, key=lambda name: np.mean(left[name][max(left[name])]))
    figure = draw("coverage", inputs)
    assert [axes.get_title(loc="left").partition(" ")[0] for axes in figure.axes] == [strongest]
    assert any("not maximized" in text for text in _texts(figure))
    assert not any("missing" in text for text in _texts(figure))
    assert any("cells are missing" in text for text in _texts(draw("coverage", gapped)))
