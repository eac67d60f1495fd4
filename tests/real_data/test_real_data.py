"""The README's commands on real data sets, if they are available."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gauntlet.config import load
from gauntlet.pipeline import paths
from gauntlet.pipeline.graph import Graph
from tests.support.real_data import DATA, needs_data
from tests.support.workflow import link_workflow, planned_jobs, run_snakemake

CONFIGS = sorted(Path(__file__).parent.glob("*.yaml"))
ABOVE_CHANCE = {"mnist": 0.8, "fashion_mnist": 0.5, "cifar10_jpeg": 0.2}

pytestmark = [pytest.mark.slow, needs_data]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_one_command_makes_all_results_of_real_images(tmp_path, monkeypatch, config):
    """The run reads the data set, trains above chance, attacks, and leaves no stale cell."""
    file = tmp_path / "config.yaml"
    file.write_text(config.read_text().replace("ROOT", str(DATA)))
    monkeypatch.chdir(tmp_path)
    link_workflow(tmp_path)
    run_snakemake(tmp_path)
    config = load([file])
    (name,) = config.experiments
    evaluations = [cell for cell in Graph(config).cells_of(name) if cell.stage.name == "evaluate"]
    rows = pq.read_table(paths.evaluations(name)).to_pandas()
    assert len(rows) == 200 * len(evaluations)
    assert (rows.clean_prediction == rows.label).mean() > ABOVE_CHANCE[name]
    assert (rows.status == "adversarial").any()
    assert planned_jobs(tmp_path) == {}
