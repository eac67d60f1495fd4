"""A finished run of stub files that carry their marks and nothing else."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from gauntlet.config import load
from gauntlet.core.files import write_json, write_text
from gauntlet.core.provenance.recipes import digest_mark, recipe_mark
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness
from tests.support.yaml_text import dump_yaml

CONFIG = {
    "experiments": {
        "small": {
            "dataset": {"source": "sklearn_digits"},
            "seeds": [0, 1],
            "training": {"epochs": 1},
            "variants": {
                "softmax": {"model": "cnn"},
                "ecc": {"model": {"name": "cnn", "head": "ecc"}, "loss": "hinge"},
                "lipschitz": {"model": "lipschitz_cnn", "loss": "hkr"},
            },
            "attacks": {
                "fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.1, 0.2]},
                "pgd": {"name": "pgd", "norm": "linf", "steps": 3, "epsilons": [0.1]},
                "ddn": {"name": "foolbox:DDNAttack", "steps": 3},
                "noise": {"name": "gaussian_noise", "norm": "l2", "epsilons": [0.5]},
            },
            "certificates": {"lipschitz": {"name": "lipschitz"}},
        }
    }
}


def write_config(folder: Path, config: dict) -> Path:
    """Write a configuration where Snakemake looks for it."""
    file = folder / "config.yaml"
    file.write_text(dump_yaml(config))
    return file


def staleness_in(folder: Path) -> Staleness:
    """Staleness the configuration of a folder, which must be the current one, with nothing remembered."""
    return Staleness.of(load([folder / "config.yaml"]))


def finish_cells(folder: Path, *, content: str = "", only: list[Cell] | None = None) -> None:
    """Write, in order, every cell that is not current, as a stage does: the marked file last.

    `content` is the files' content beyond their marks, which decides their digest.
    """
    wanted = list(staleness_in(folder).graph.cells()) if only is None else only
    for _, cells in itertools.groupby(wanted, key=lambda cell: cell.stage):
        staleness = staleness_in(folder)
        for cell in cells:
            if not staleness.is_current(cell):
                finish_cell(staleness, cell, content)


def finish_cell(staleness: Staleness, cell: Cell, content: str = "") -> None:
    """Write the files of one cell."""
    recipe = staleness.recipe(cell)
    assert recipe is not None, f"{cell} is made before its inputs"
    digest = hashlib.sha256(f"{cell}{content}".encode()).hexdigest()
    for path in reversed(cell.outputs):
        if path.suffix == ".json":
            write_json(path, {"digest": f"sha256:{digest}"})
        else:
            write_text(path, f"{recipe_mark(recipe.digest)} {digest_mark(digest)}")
