"""Aggregation: refusals of wrong inputs, and reports of missing cells."""

from __future__ import annotations

import copy
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.config.schema import Experiment
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.provenance.environment import versions
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.aggregate import run as aggregate
from gauntlet.pipeline.stages.train.declaration import model_of
from gauntlet.pipeline.staleness import State
from gauntlet.pipeline.status import CellState, collect_status
from gauntlet.reporting.aggregation import ATTACKS_VOLATILE
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.synthetic_outputs import SMALL, STAGE_SECONDS, finish_cell, finish_cells

AGGREGATE = make_cell("aggregate", "small")
PGD = make_cell("evaluate", "small", "softmax", 0, "pgd")
MODELS = [make_cell("train", "small", "softmax", seed) for seed in (0, 1)]
CERTIFICATE = make_cell("certify", "small", "lipschitz", 1, "lipschitz")


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of the finished run, which is the current folder."""
    subprocess.run(["cp", "-r", f"{finished}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder):
    """Aggregate as the command does."""
    staleness = staleness_in(folder)
    aggregate.run(staleness.job(AGGREGATE))


def configure(folder, edit):
    """Write an edited configuration."""
    config = copy.deepcopy(SMALL)
    edit(config["experiments"]["small"])
    write_config(folder, config)


def swap(*files):
    """Exchange the contents of two files."""
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)


def test_a_complete_run_is_aggregated(folder):
    """The finished run is accepted without the changes below."""
    run(folder)
    assert pq.read_table(paths.evaluations("small")).num_rows == 8 * 20


def test_another_headline_redraws_what_is_at_its_budgets(folder):
    """The rows stay the same, so that only recipes distinguish these figures, tables and the page from the old ones."""
    transfer = {"name": "fgsm", "norm": "linf", "epsilons": [0.05, 0.1], "transfer_from": ["softmax"]}
    for budget in (0.1, 0.05):
        configure(
            folder, lambda one, at=budget: (one["attacks"].update(moved=transfer), one.update(headline={"linf": [at]}))
        )
        if budget == 0.1:
            finish_cells(folder)
            run(folder)
            finish_cells(folder)
    run(folder)
    unfinished = {cell.name or cell.stage.name for cell in staleness_in(folder).unfinished()}
    assert unfinished == {"heat_map", "transfer_matrix", "table", "report"}


def test_partial_files_of_finished_cells_are_removed(folder):
    """A kill after publication leaves such files."""
    left = [paths.partial(one, f"sha256:{name}") for one, name in ((PGD, "old"), (MODELS[0], "older"))]
    for partial in left:
        partial.mkdir()
        (partial / "part").touch()
    run(folder)
    assert not any(partial.exists() for partial in left)


def test_an_edited_value_is_refused(folder):
    """A value edited by hand, with all metadata kept, does not match the digest."""
    path = paths.samples(PGD)
    table = pq.read_table(path)
    column = table.schema.get_field_index("label")
    labels = table["label"].to_pylist()
    labels[0] = (labels[0] + 1) % 10
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(labels, pa.int32())), path)
    with pytest.raises(InputError, match=rf"{path}: the values are not those that were written"):
        run(folder)


def test_a_table_without_a_recipe_is_refused(folder):
    """A table saved by another program has no recipe."""
    path = paths.samples(PGD)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(GauntletError, match=rf"{path}.*does not record what made it; delete it"):
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
def test_swapped_models_are_refused_and_named(folder, files):
    """Whichever files are exchanged, staleness and aggregation name both models."""
    for file in files:
        swap(*(file(model) for model in MODELS))
    staleness = staleness_in(folder)
    assert [staleness.state(model) for model in MODELS] == [State.STALE, State.STALE]
    with pytest.raises(GauntletError, match=f"made by another.*{MODELS[0]}.*{MODELS[1]}"):
        run(folder)
    changes = {status.cell: status.changes for status in collect_status(staleness).in_state(CellState.STALE)}
    assert all(changes[model] for model in MODELS)


def test_two_configurations_in_one_folder_are_refused_and_named(folder):
    """Cells of another configuration are named, and those of both are accepted."""
    configure(folder, lambda one: one["attacks"]["pgd"].update(steps=3))
    finish_cell(staleness_in(folder), PGD)
    write_config(folder, SMALL)
    with pytest.raises(GauntletError, match=f"1 cells were made by another .*: {PGD};"):
        run(folder)


def test_missing_cells_are_named(folder):
    """Without `allow_missing` the error names the cells and the remedy."""
    lost = [PGD, CERTIFICATE]
    for cell in lost:
        paths.samples(cell).unlink()
    with pytest.raises(GauntletError, match=f"{PGD}; {CERTIFICATE}; run .*allow_missing") as refused:
        run(folder)
    assert refused.value.exit_code == 1


def test_allowed_missing_cells_are_reported_everywhere(folder):
    """With `allow_missing` tables, figures and page report them, until they are made."""
    configure(folder, lambda one: one.update(allow_missing=True))
    finish_cells(folder)
    assert staleness_in(folder).unfinished() == [], "the key itself makes nothing stale"
    stale = make_cell("evaluate", "small", "softmax", 1, "noise")
    paths.samples(PGD).unlink()
    paths.samples(CERTIFICATE).unlink()
    paths.samples(stale).write_bytes(paths.samples(make_cell("evaluate", "small", "softmax", 0, "noise")).read_bytes())
    run(folder)
    page = paths.table("small", "md").read_text()
    for cell in (PGD, CERTIFICATE, stale):
        assert str(cell).replace("_", "\\_") in page
    summary = read_table(paths.summary("small")).to_pylist()
    assert sum(row["missing"] for row in summary if row["attack"] in ("pgd", "noise")) == 2
    assert collect_status(staleness_in(folder)).left_out == {"small": 3}
    assert staleness_in(folder).state(AGGREGATE) is State.STALE, "it is not what a whole run would give"
    assert staleness_in(folder).is_current(AGGREGATE), "it is what there is"
    for cell in (PGD, CERTIFICATE, stale):
        finish_cell(staleness_in(folder), cell)
    assert not staleness_in(folder).is_current(AGGREGATE)


def test_flags_of_every_model_are_in_the_tables(folder):
    """A failed check of one model flags its variant; probes and comparisons share a table."""
    model = make_cell("diagnose", "small", "softmax", 1)
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
    """With `allow_missing` the model's comparisons are made, and the table names the missing probes."""
    configure(folder, lambda one: one.update(allow_missing=True))
    lost = make_cell("diagnose", "small", "softmax", 0)
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


def test_properties_of_an_attack_come_from_its_registration():
    """They distinguish single steps, noise, black boxes and other libraries' attacks."""
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


def test_missing_certificates_alone_are_reported(folder):
    """A table of attacks names missing certificates too."""
    configure(folder, lambda one: one.update(allow_missing=True))
    for seed in (0, 1):
        paths.samples(make_cell("certify", "small", "lipschitz", seed, "lipschitz")).unlink()
    run(folder)
    assert str(CERTIFICATE) in paths.table("small", "md").read_text()
    assert "radius" in pq.read_schema(paths.certificates("small")).names


def test_an_empty_run_is_not_aggregated(folder):
    """An empty table would look like a result."""
    configure(folder, lambda one: one.update(allow_missing=True, samples=5))
    with pytest.raises(GauntletError, match="every cell is missing or stale"):
        run(folder)


def test_figures_and_page_leave_missing_cells_out(folder):
    """The page's recipe changes when cells are missing."""
    configure(folder, lambda one: one.update(allow_missing=True))
    whole = staleness_in(folder).recipe(make_cell("report", "small"))
    paths.samples(CERTIFICATE).unlink()
    assert staleness_in(folder).recipe(make_cell("report", "small")) != whole
    curves = make_cell("figure", "small", name="training_curves")
    paths.history(MODELS[0]).unlink()
    assert paths.history(MODELS[0]) not in staleness_in(folder).gathered(curves)
    assert staleness_in(folder).recipe(curves) is not None


def test_the_attacks_table_holds_seconds_library_and_version(folder):
    """Seconds are those in the cell's file, also of shards."""
    run(folder)
    rows = read_table(paths.attacks("small")).to_pylist()
    assert {(row["attack"], row["library"]) for row in rows} == {("pgd", "gauntlet"), ("noise", "gauntlet")}
    assert {row["seconds"] for row in rows} == {STAGE_SECONDS["evaluate"]}
    assert {row["version"] for row in rows} == {versions()["gauntlet"]}
    configure(folder, lambda one: one["attacks"]["pgd"].update(shards=2))
    run(folder)
    timed = {(row["attack"], row["seconds"]) for row in read_table(paths.attacks("small")).to_pylist()}
    assert timed == {(attack, STAGE_SECONDS["evaluate"]) for attack in ("pgd", "noise")}


def test_every_cell_has_a_row_of_origins(folder):
    """Models, attacks, certificates and probes have their recipes, and missing cells no row."""
    configure(folder, lambda one: one.update(allow_missing=True))
    paths.samples(CERTIFICATE).unlink()
    run(folder)
    rows = read_table(paths.origins("small")).to_pylist()
    found = {make_cell(row["stage"], "small", row["variant"], row["seed"], row["name"] or ""): row for row in rows}
    staleness = staleness_in(folder)
    kept = set(staleness.gathered(AGGREGATE).values())
    assert set(found) == kept | {model_of(cell) for cell in kept}
    assert CERTIFICATE not in found
    assert {cell: row["recipe"] for cell, row in found.items()} == {
        cell: staleness.recipe(cell).digest for cell in found
    }


def test_other_durations_do_not_make_the_page_stale(folder):
    """Cells made again to the same rows leave the page's recipe unchanged."""
    run(folder)
    report = make_cell("report", "small")
    before = staleness_in(folder).recipe(report)
    table = read_table(paths.attacks("small"))
    slower = table.set_column(table.schema.get_field_index("seconds"), "seconds", pa.array([9.0] * len(table)))
    metadata = read_metadata(paths.attacks("small"))
    write_table(paths.attacks("small"), slower, metadata, volatile=ATTACKS_VOLATILE)
    assert staleness_in(folder).recipe(report) == before
    fewer = table.set_column(table.schema.get_field_index("broken"), "broken", pa.array([0] * len(table)))
    write_table(paths.attacks("small"), fewer, metadata, volatile=ATTACKS_VOLATILE)
    assert staleness_in(folder).recipe(report) != before
