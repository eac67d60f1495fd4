"""A finished run with synthetic tables, headers, recipes and durations."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gauntlet.core.files import write_bytes, write_json, write_text
from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.digests import digest_json
from gauntlet.core.provenance.recipes import DIGEST_KEY, digest_mark, recipe_mark
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness
from gauntlet.reporting.aggregation import AttackDesign
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic
from tests.support.stub_outputs import staleness_in

STAGE_SECONDS = {"prepare": 2.0, "train": 600.0, "evaluate": 60.0, "certify": 5.0, "diagnose": 3.0}

SMALL = {
    "experiments": {
        "small": {
            "dataset": {"source": "sklearn_digits"},
            "seeds": [0, 1],
            "training": {"epochs": 1},
            "variants": {
                "softmax": {"model": "cnn", "training": {"epochs": 2}},
                "lipschitz": {"model": "lipschitz_cnn", "loss": "hkr"},
            },
            "attacks": {
                "pgd": {"name": "pgd", "norm": "linf", "steps": 40, "epsilons": [0.1]},
                "noise": {"name": "gaussian_noise", "norm": "l2", "epsilons": [0.5]},
            },
            "certificates": {"lipschitz": {"name": "lipschitz"}},
        }
    }
}


def finish_cells(folder: Path) -> None:
    """Write, in order, every cell that is not current."""
    for cell in list(staleness_in(folder).graph.cells()):
        staleness = staleness_in(folder)
        if not staleness.is_current(cell):
            finish_cell(staleness, cell)


def finish_cell(staleness: Staleness, cell: Cell, content: str = "") -> None:
    """Write the files of one cell as its stage does."""
    recipe = staleness.recipe(cell)
    assert recipe is not None
    made = {**recipe.metadata(), **Stopwatch().run_metadata()}
    made["gauntlet.seconds"] = str(STAGE_SECONDS.get(cell.stage.name, 1.0))
    digest = digest_json([str(cell), content])
    for path in reversed(cell.outputs):
        if path.suffix == ".json":
            write_json(path, {"digest": f"sha256:{digest}"})
        elif path.suffix == ".parquet":
            write_table(path, stage_table(staleness, cell, path), made)
        elif path.suffix == ".safetensors":
            header = {**made, DIGEST_KEY: digest_mark(digest)}
            write_bytes(path, empty_safetensors(header))
        else:
            write_text(path, f"{recipe_mark(recipe.digest)} {digest_mark(digest)}")


def empty_safetensors(metadata: dict[str, str]) -> bytes:
    """Return the bytes of a safetensors file without tensors."""
    header = json.dumps({"__metadata__": {"gauntlet": json.dumps(metadata)}}).encode()
    return len(header).to_bytes(8, "little") + header


def stage_table(staleness: Staleness, cell: Cell, path: Path) -> pa.Table:
    """Return synthetic rows of a stage, or a placeholder."""
    if cell.stage.name == "evaluate":
        attack = staleness.graph.experiment(cell.experiment).attacks[cell.name]
        planned = AttackDesign(cell.name, attack.norm, attack.epsilons)
        return synthetic.evaluation(cell, planned, samples=20)
    if cell.stage.name == "certify":
        drawn = synthetic.certificate(cell, samples=20)
        small = pc.multiply(drawn["radius"], pa.scalar(0.01))
        return drawn.set_column(drawn.schema.get_field_index("radius"), drawn.schema.field("radius"), small)
    if cell.stage.name == "diagnose":
        found = [
            Measurement.share("zero_gradients", None, [3], 20, "as forged"),
            Measurement.share("unbounded_budget", "linf", [], 20, "fooled"),
        ]
        return measurement_table(found, experiment=cell.experiment, variant=cell.variant, seed=cell.seed)
    return pa.table({"cell": [f"{cell} {path.name}"]})
