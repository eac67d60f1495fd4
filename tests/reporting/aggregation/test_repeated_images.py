"""One image twice with two labels, as in CIFAR-100 or ImageNet, from evaluation and certificate to all tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import write_table
from gauntlet.registry import Spec
from gauntlet.reporting.aggregation import (
    AttackDesign,
    CertificateDesign,
    ExperimentDesign,
    certified_accuracies,
    combine,
    compare_variants,
    open_evaluations,
    summarize,
)
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.certificates.counterexamples import find_counterexamples
from gauntlet.robustness.diagnostics.attack_comparisons import ComparedAttack, compare_attacks
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate
from tests.robustness.certificates.test_lipschitz import Isometry
from tests.support.cells import make_cell

EPSILON = 0.3
NEAREST = AttackSettings("nearest", Spec("foolbox:DDNAttack", {"steps": 60}), "l2", None)
BOUNDED = AttackSettings("pgd", Spec("pgd", {"steps": 10}), "linf", (0.02, EPSILON))
DESIGN = ExperimentDesign(
    "e",
    ("v", "w"),
    (0,),
    (AttackDesign("nearest", "l2", None), AttackDesign("pgd", "linf", (0.02, EPSILON))),
    (CertificateDesign("c", "l2", "model", ("v", "w")),),
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Six images of which the first four are pairs [a, a], [b, b] with two labels each, and the files of two models."""
    folder = tmp_path_factory.mktemp("repeated")
    distinct = 0.5 + 0.2 * (torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(2)) - 0.5)
    images = distinct[[0, 0, 1, 1, 2, 3]]
    evaluations, certificates, rows = {}, {}, []
    for variant, scale in (("v", 1.0), ("w", 30.0)):
        network = Isometry(scale).eval()
        labels = network(images).argmax(1)
        labels[1] = (labels[1] + 1) % 4
        labels[2] = (labels[2] + 1) % 4
        identity = CellIdentity("e", variant, 0)
        for attack in (NEAREST, BOUNDED):
            cell = make_cell("evaluate", "e", variant, 0, attack.name)
            evaluations[cell] = folder / f"{variant}-{attack.name}.parquet"
            rows.append((attack, evaluate(network, images, labels, attack, identity=identity).rows))
            write_table(evaluations[cell], rows[-1][1], {})
        cell = make_cell("certify", "e", variant, 0, "c")
        certificates[cell] = folder / f"{variant}-c.parquet"
        table = certify(network, images, labels, Spec("lipschitz"), name="c", norm="l2", identity=identity)
        write_table(certificates[cell], table, {})
    combine(evaluations, folder / "evaluations.parquet", design=DESIGN)
    combine(certificates, folder / "certificates.parquet", design=DESIGN)
    return folder, rows


def test_the_misclassified_twin_refutes_no_certificate(results):
    """Each label's row is compared with its own certificate, and no larger radius hides behind a twin."""
    folder, _ = results
    evaluations, certificates = (pq.read_table(folder / f"{name}.parquet") for name in ("evaluations", "certificates"))
    assert certificates["status"].to_pylist().count("already_wrong") == 4
    assert find_counterexamples(certificates, evaluations).num_rows == 0
    place = certificates.schema.get_field_index("radius")
    larger = np.where(certificates["radius"].to_numpy() > 0, 9.0, 0.0)
    claimed = certificates.set_column(place, certificates.schema.field(place), [larger])
    false = find_counterexamples(claimed, evaluations)
    fooled = [row for row in evaluations.to_pylist() if row["status"] == "adversarial"]
    assert len(false) == len(fooled) == 16
    assert sorted(false["index"].to_pylist()) == sorted(row["index"] for row in fooled)


def test_every_table_counts_all_six_samples(results):
    """Summary, certified accuracies and comparisons: four of six are right, whatever their twins are."""
    folder, _ = results
    evaluations, certificates = folder / "evaluations.parquet", folder / "certificates.parquet"
    summary = summarize(evaluations).to_pylist()
    assert {row["samples"] for row in summary} == {6}
    assert [row["clean_accuracy"] for row in summary] == pytest.approx([4 / 6] * len(summary))
    certified = certified_accuracies(certificates)
    at_zero = [row["certified_accuracy"] for row in certified.to_pylist() if row["radius"] == 0]
    assert at_zero == pytest.approx([4 / 6] * 2)
    compared = compare_variants(evaluations, certificates, certified=certified).to_pylist()
    assert {row["samples"] for row in compared} == {6}
    assert {row["difference"] for row in compared if row["measure"] == "clean"} == {0.0}


def test_diagnostics_and_figures_keep_twins_apart(results, tmp_path):
    """A check counts each sample once by its index, and the figure pairs each certificate with its own distance."""
    folder, rows = results
    weaker = ComparedAttack("nearest", "l2", access="decision"), ComparedAttack("pgd", "l2")
    by_check = {one.check: one for one in compare_attacks([(weaker[0], rows[0][1]), (weaker[1], rows[0][1])])}
    assert " of 4 samples" in by_check["black_box_beats_white_box"].evidence
    inputs = FigureInputs(("v", "w"), folder / "evaluations.parquet", certificates=folder / "certificates.parquet")
    (figure,) = write_figure("certificate_distance", inputs, tmp_path, formats=("svg",))
    assert "8 certified samples, 0 refuted" in figure.read_text()


@pytest.mark.parametrize("kind", ["evaluations", "certificates"])
def test_a_file_that_has_a_row_twice_is_refused(results, tmp_path, kind):
    """Two copies of the rows are no more samples; one copy, written elsewhere, is read."""
    table = pq.read_table(results[0] / f"{kind}.parquet")
    path = tmp_path / f"{kind}.parquet"
    plain = table.replace_schema_metadata(DESIGN.metadata())

    def read():
        if kind == "certificates":
            return certified_accuracies(path)
        with open_evaluations(path) as opened:
            return summarize(opened.path)

    pq.write_table(plain, path)
    assert read().num_rows > 0
    pq.write_table(pa.concat_tables([plain, plain.slice(2, 1)]), path)
    with pytest.raises(InputError, match=r"sample 2 appears 2 times \(variant v, seed 0, "):
        read()
    moved = plain.to_pylist()
    moved[0]["sample_hash"] = "0" * 16
    pq.write_table(pa.Table.from_pylist(moved, schema=plain.schema), path)
    with pytest.raises(InputError, match="index 0 has several images or labels"):
        read()
