"""Raw images that are moved, and stored again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import run
from tests.support.pictures import folder_of
from tests.support.stub_outputs import CONFIG, finish_cells, staleness_in, write_config


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Path:
    """A finished run on images in `pictures`, of which only the data are real."""
    monkeypatch.chdir(tmp_path)
    folder_of(Path("pictures"), {"cat": 10, "dog": 10})
    configure(tmp_path, "pictures")
    run(monkeypatch, capsys, "prepare")
    finish_cells(tmp_path)
    assert staleness_in(tmp_path).unfinished() == []
    return tmp_path


def configure(folder: Path, root: str) -> None:
    """Write the configuration with the images in `root`."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["dataset"] = {"source": "imagefolder", "root": root}
    write_config(folder, config)


def test_no_model_or_attack_is_made_again(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The same images in another folder are stored again, and the models trained on them stay."""
    Path("pictures").rename("elsewhere")
    configure(finished, "elsewhere")
    run(monkeypatch, capsys, "prepare")
    assert len(list(Path("data").glob("*/manifest.json"))) == 2
    stale = {cell.stage.name for cell in staleness_in(finished).unfinished()}
    assert stale.isdisjoint({"train", "evaluate", "certify", "diagnose", "inspect"})


def test_other_images_make_every_model_again(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One image more in the other folder is enough."""
    folder_of(Path("elsewhere"), {"cat": 10, "dog": 11})
    configure(finished, "elsewhere")
    run(monkeypatch, capsys, "prepare")
    staleness = staleness_in(finished)
    models = [cell for cell in staleness.graph.cells() if cell.stage.name == "train"]
    assert [cell for cell in models if staleness.is_current(cell)] == []
    recipe = staleness.recipe(models[0])
    assert recipe is not None
    assert list(recipe.inputs) == ["data/manifest.json"]
