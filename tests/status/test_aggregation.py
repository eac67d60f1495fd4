"""No number is wrong silently: what aggregation refuses, and what it says where cells may be missing."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.errors import GauntletError, InputError
from gauntlet.planning import State, require_current_inputs
from gauntlet.results import read_table
from gauntlet.stages import aggregate
from gauntlet.status import Progress, survey
from tests.status.forge import SMALL, finish, make
from tests.workflow.pretend import plan_in, write_config

AGGREGATE = Cell("aggregate", "small")
PGD = Cell("evaluate", "small", "softmax", 0, "pgd")
MODELS = [Cell("train", "small", "softmax", seed) for seed in (0, 1)]
CERTIFICATE = Cell("certify", "small", "lipschitz", 1, "lipschitz")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, made once."""
    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_config(folder, SMALL)
        finish(folder)
    finally:
        os.chdir(before)
    return folder


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
    changes = {status.cell: status.changes for status in survey(plan).having(Progress.STALE)}
    assert all(changes[model] for model in MODELS)


def test_two_configurations_in_one_folder_are_refused_and_named(folder):
    """Cells that another configuration made are named; those that both agree on are not."""
    configure(folder, lambda one: one["attacks"]["pgd"].update(steps=3))
    make(plan_in(folder), PGD)
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
    finish(folder)
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
    assert survey(plan_in(folder)).left_out == {"small": 3}
    assert plan_in(folder).state(AGGREGATE) is State.STALE, "it is not what a whole run would give"
    assert plan_in(folder).is_current(AGGREGATE), "it is what there is"
    finish_cells(folder, [PGD, CERTIFICATE, stale])
    assert not plan_in(folder).is_current(AGGREGATE)


def finish_cells(folder, cells):
    """Make single cells."""
    for cell in cells:
        make(plan_in(folder), cell)


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
    curves = Cell("figure", "small", probe="training_curves")
    paths.history(MODELS[0]).unlink()
    assert paths.history(MODELS[0]) not in plan_in(folder).gathered(curves)
    assert plan_in(folder).recipe(curves) is not None
