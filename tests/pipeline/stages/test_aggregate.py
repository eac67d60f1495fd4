"""No number is wrong silently: what aggregation refuses, and what it says where cells may be missing."""

from __future__ import annotations

import copy
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.config import Cell
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.provenance.environment import versions
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages import aggregate
from gauntlet.pipeline.staleness import State, require_current_inputs
from gauntlet.pipeline.status import CellState, collect_status
from gauntlet.reporting.aggregation import ATTACKS_VOLATILE
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support.stub_outputs import plan_in, write_config
from tests.support.synthetic_outputs import SMALL, STAGE_SECONDS, finish_cell, finish_cells

AGGREGATE = Cell("aggregate", "small")
PGD = Cell("evaluate", "small", "softmax", 0, "pgd")
MODELS = [Cell("train", "small", "softmax", seed) for seed in (0, 1)]
CERTIFICATE = Cell("certify", "small", "lipschitz", 1, "lipschitz")


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of the finished run, which is the current folder."""
    subprocess.run(["cp", "-r", f"{finished}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder):
    """Aggregate as the command does."""
    plan = plan_in(folder)
    aggregate.run(plan, AGGREGATE, require_current_inputs(plan, AGGREGATE))


def configure(folder, edit):
    """Write an edited configuration."""
    config = copy.deepcopy(SMALL)
    edit(config["experiments"]["small"])
    write_config(folder, config)


def swap(*files):
    """Exchange two files."""
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)


def test_a_whole_run_is_aggregated(folder):
    """What is refused below is otherwise in order."""
    run(folder)
    assert pq.read_table(paths.evaluations("small")).num_rows == 8 * 20


def test_what_a_kill_after_publication_left_is_cleared_away(folder):
    """Partial files of cells that are whole belong to nobody any more."""
    left = [paths.partial(one, f"sha256:{name}") for one, name in ((PGD, "old"), (MODELS[0], "older"))]
    for partial in left:
        partial.mkdir()
        (partial / "part").touch()
    run(folder)
    assert not any(partial.exists() for partial in left)


def test_an_edited_value_is_refused(folder):
    """A value edited by hand, all metadata kept, is told from the digest; the file is named."""
    path = paths.samples(PGD)
    table = pq.read_table(path)
    column = table.schema.get_field_index("label")
    labels = table["label"].to_pylist()
    labels[0] = (labels[0] + 1) % 10
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(labels, pa.int32())), path)
    with pytest.raises(InputError, match=rf"{path}: the values are not those that were written"):
        run(folder)


def test_a_table_from_elsewhere_is_refused(folder):
    """A table saved again by another program does not say what made it."""
    path = paths.samples(PGD)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(GauntletError, match=rf"{path}.*does not say what made it; delete it"):
        run(folder)


@pytest.mark.parametrize(
    "files",
    [
        [paths.model_weights],
        [paths.model_manifest],
        [paths.model_weights, paths.model_manifest],
        [paths.model_weights, paths.model_manifest, paths.history],
        [paths.history],
    ],
)
def test_two_models_swapped_are_refused_and_named(folder, files):
    """Whichever of two models' files are exchanged, both models are named, by the plan and by aggregation."""
    for file in files:
        swap(*(file(model) for model in MODELS))
    plan = plan_in(folder)
    assert [plan.state(model) for model in MODELS] == [State.STALE, State.STALE]
    with pytest.raises(GauntletError, match=f"made by another.*{MODELS[0]}.*{MODELS[1]}"):
        run(folder)
    changes = {status.cell: status.changes for status in collect_status(plan).in_state(CellState.STALE)}
    assert all(changes[model] for model in MODELS)


def test_two_configurations_in_one_folder_are_refused_and_named(folder):
    """Cells that another configuration made are named; those that both agree on are not."""
    configure(folder, lambda one: one["attacks"]["pgd"].update(steps=3))
    finish_cell(plan_in(folder), PGD)
    write_config(folder, SMALL)
    with pytest.raises(GauntletError, match=f"1 cells were made by another .*: {PGD};"):
        run(folder)


def test_missing_cells_are_named(folder):
    """Without `allow_missing` the cells are named, and what would be right."""
    lost = [PGD, CERTIFICATE]
    for cell in lost:
        paths.samples(cell).unlink()
    with pytest.raises(GauntletError, match=f"{PGD}; {CERTIFICATE}; run .*allow_missing") as refused:
        run(folder)
    assert refused.value.exit_code == 1


def test_missing_cells_are_allowed_and_told_everywhere(folder):
    """With `allow_missing` tables, figures and page are made without them and say so; then all is made again."""
    configure(folder, lambda one: one.update(allow_missing=True))
    finish_cells(folder)
    assert plan_in(folder).unfinished() == [], "the key itself makes nothing stale"
    stale = Cell("evaluate", "small", "softmax", 1, "noise")
    paths.samples(PGD).unlink()
    paths.samples(CERTIFICATE).unlink()
    paths.samples(stale).write_bytes(paths.samples(Cell("evaluate", "small", "softmax", 0, "noise")).read_bytes())
    run(folder)
    page = paths.table("small", "md").read_text()
    for cell in (PGD, CERTIFICATE, stale):
        assert str(cell).replace("_", "\\_") in page
    summary = read_table(paths.summary("small")).to_pylist()
    assert sum(row["missing"] for row in summary if row["attack"] in ("pgd", "noise")) == 2
    assert collect_status(plan_in(folder)).left_out == {"small": 3}
    assert plan_in(folder).state(AGGREGATE) is State.STALE, "it is not what a whole run would give"
    assert plan_in(folder).is_current(AGGREGATE), "it is what there is"
    for cell in (PGD, CERTIFICATE, stale):
        finish_cell(plan_in(folder), cell)
    assert not plan_in(folder).is_current(AGGREGATE)


def test_every_model_is_diagnosed_and_its_flag_stands_in_the_tables(folder):
    """A failed check of one model marks its variant's numbers; probes and comparisons are in one table."""
    model = Cell("diagnose", "small", "softmax", 1)
    found = [Measurement.share("unbounded_budget", "linf", range(15), 20, "PGD does not reach them")]
    rows = measurement_table(found, experiment="small", variant="softmax", seed=1)
    write_table(paths.probes(model), rows, read_metadata(paths.probes(model)))
    run(folder)
    table = read_table(paths.diagnostics("small")).to_pylist()
    assert {(row["variant"], row["seed"]) for row in table} == {
        (variant, seed) for variant in ("softmax", "lipschitz") for seed in (0, 1)
    }
    assert {row["check"] for row in table} >= {"noise_beats_gradients", "unbounded_budget"}
    flags = {(row["variant"], row["norm"]): row["flags"] for row in read_table(paths.summary("small")).to_pylist()}
    assert "unbounded_budget" in flags["softmax", "linf"]
    assert "unbounded_budget" not in flags["softmax", "l2"] + flags["lipschitz", "linf"]
    page = paths.table("small", "md").read_text()
    assert "‡" in page
    assert "- softmax: unbounded\\_budget" in page


def test_missing_probes_are_allowed_and_named(folder):
    """With `allow_missing` the model's comparisons are made all the same, and the table names what is not there."""
    configure(folder, lambda one: one.update(allow_missing=True))
    lost = Cell("diagnose", "small", "softmax", 0)
    paths.probes(lost).unlink()
    run(folder)
    assert str(lost) in paths.table("small", "md").read_text()
    checks = {
        (row["seed"], row["check"])
        for row in read_table(paths.diagnostics("small")).to_pylist()
        if row["variant"] == "softmax"
    }
    assert (0, "noise_beats_gradients") in checks
    assert (0, "unbounded_budget") not in checks
    assert (1, "unbounded_budget") in checks


def test_what_is_known_of_an_attack_comes_from_its_registration():
    """Single steps, noise, black boxes and other libraries' attacks are told apart."""
    attacks = {
        "fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.1]},
        "pgd": {"name": "pgd", "norm": "linf", "steps": 7, "epsilons": [0.1]},
        "spsa": {"name": "spsa", "norm": "linf", "epsilons": [0.1]},
        "noise": {"name": "uniform_noise", "norm": "linf", "epsilons": [0.1]},
        "theirs": {"name": "foolbox:FGSM", "epsilons": [0.1]},
        "grain": {"name": "foolbox:L2AdditiveGaussianNoiseAttack", "epsilons": [0.1]},
        "boundary": {"name": "foolbox:BoundaryAttack"},
        "bits": {"name": "pgd", "norm": "linf", "epsilons": [0.1], "surrogate": "code_bits"},
        "fitting": {"name": "adaptive", "norm": "linf", "epsilons": [0.1]},
    }
    variants = {
        "softmax": {"model": "cnn"},
        "ecc": {"model": {"name": "cnn", "head": "ecc"}, "loss": "hinge"},
        "layer": {"model": {"name": "cnn", "head": "hadamard_code"}},
    }
    small = {key: value for key, value in SMALL["experiments"]["small"].items() if key != "certificates"}
    settings = Experiment.model_validate({**small, "variants": variants, "attacks": attacks})
    facts = {name: aggregate.compared_attack(name, settings, "softmax") for name in attacks}
    assert {name for name, one in facts.items() if one.steps == 1} == {"fgsm", "theirs"}
    assert {name for name, one in facts.items() if one.is_white_box} == {"fgsm", "pgd", "theirs", "bits", "fitting"}
    assert {name for name, one in facts.items() if one.search == "random"} == {"noise", "grain"}
    assert {name for name, one in facts.items() if one.is_adaptive} == {"bits"}
    assert all(aggregate.compared_attack("fitting", settings, coded).is_adaptive for coded in ("ecc", "layer"))
    assert (facts["pgd"].steps, facts["pgd"].epsilons, facts["boundary"].epsilons) == (7, (0.1,), None)


def test_missing_certificates_alone_are_told(folder):
    """A table that shows attacks only still names certificates that are missing."""
    configure(folder, lambda one: one.update(allow_missing=True))
    for seed in (0, 1):
        paths.samples(Cell("certify", "small", "lipschitz", seed, "lipschitz")).unlink()
    run(folder)
    assert str(CERTIFICATE) in paths.table("small", "md").read_text()
    assert "radius" in pq.read_schema(paths.certificates("small")).names


def test_nothing_at_all_is_not_aggregated(folder):
    """An empty table would look like a result."""
    configure(folder, lambda one: one.update(allow_missing=True, samples=5))
    with pytest.raises(GauntletError, match="every cell is missing or stale"):
        run(folder)


def test_figures_and_page_do_without_what_was_left_out(folder):
    """What a figure reads of lost cells is left out, and the page is another one when cells are."""
    configure(folder, lambda one: one.update(allow_missing=True))
    whole = plan_in(folder).recipe(Cell("report", "small"))
    paths.samples(CERTIFICATE).unlink()
    assert plan_in(folder).recipe(Cell("report", "small")) != whole
    curves = Cell("figure", "small", name="training_curves")
    paths.history(MODELS[0]).unlink()
    assert paths.history(MODELS[0]) not in plan_in(folder).gathered(curves)
    assert plan_in(folder).recipe(curves) is not None


def test_attacks_are_told_with_what_made_their_cells(folder):
    """Seconds of the job, the library that holds the attack and its version; time of shards elsewhere is not known."""
    run(folder)
    rows = read_table(paths.attacks("small")).to_pylist()
    assert {(row["attack"], row["library"]) for row in rows} == {("pgd", "gauntlet"), ("noise", "gauntlet")}
    assert {row["seconds"] for row in rows} == {STAGE_SECONDS["evaluate"]}
    assert {row["version"] for row in rows} == {versions()["gauntlet"]}
    configure(folder, lambda one: one["attacks"]["pgd"].update(shards=2))
    run(folder)
    timed = {(row["attack"], row["seconds"]) for row in read_table(paths.attacks("small")).to_pylist()}
    assert timed == {("pgd", None), ("noise", STAGE_SECONDS["evaluate"])}


def test_every_cell_is_told_with_its_origin(folder):
    """Models, attacks, certificates and probes have the recipes that they have now; a lost one is not told."""
    configure(folder, lambda one: one.update(allow_missing=True))
    paths.samples(CERTIFICATE).unlink()
    run(folder)
    rows = read_table(paths.origins("small")).to_pylist()
    found = {Cell(row["stage"], "small", row["variant"], row["seed"], row["name"] or ""): row for row in rows}
    plan = plan_in(folder)
    kept = set(plan.gathered(AGGREGATE).values())
    assert set(found) == kept | {cell.model for cell in kept}
    assert CERTIFICATE not in found
    assert {cell: row["recipe"] for cell, row in found.items()} == {cell: plan.recipe(cell).string for cell in found}


def test_time_alone_makes_nothing_stale_that_reads_the_attacks(folder):
    """Cells made again to the same rows in another time: the page's recipe, which the table is part of, stays."""
    run(folder)
    report = Cell("report", "small")
    before = plan_in(folder).recipe(report)
    table = read_table(paths.attacks("small"))
    slower = table.set_column(table.schema.get_field_index("seconds"), "seconds", pa.array([9.0] * len(table)))
    metadata = read_metadata(paths.attacks("small"))
    write_table(paths.attacks("small"), slower, metadata, volatile=ATTACKS_VOLATILE)
    assert plan_in(folder).recipe(report) == before
    fewer = table.set_column(table.schema.get_field_index("broken"), "broken", pa.array([0] * len(table)))
    write_table(paths.attacks("small"), fewer, metadata, volatile=ATTACKS_VOLATILE)
    assert plan_in(folder).recipe(report) != before
