"""Networks of one's own through the stages: unsound ones are refused before anything is trained, others give rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.diagnose import run as diagnose
from gauntlet.pipeline.stages.evaluate import run as evaluate
from gauntlet.pipeline.stages.prepare import run as prepare
from gauntlet.pipeline.stages.train import run as train
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.yaml_text import parse_yaml

STAGES = {"prepare": prepare, "train": train, "evaluate": evaluate, "diagnose": diagnose}
FGSM = {"name": "fgsm", "norm": "linf", "epsilons": [0.05]}


def configure(folder: Path, network: str, **attack: Any) -> None:
    """Write a configuration with one variant, one of `tests/support/unsound_networks.py`."""
    tiny = {
        "dataset": {"source": "sklearn_digits", "limit": {"train": 80, "test": 20}},
        "seeds": [1],
        "training": {"epochs": 1},
        "diagnostics": {"samples": 4, "steps": 2},
        "variants": {"own": {"model": f"tests.support.unsound_networks:{network}"}},
        "attacks": {"f": {**FGSM, **attack}},
    }
    write_config(folder, {"experiments": {"tiny": tiny}, "execution": {"device": "cpu"}})


def run(folder: Path, *stages: str) -> None:
    """Run the cells of some stages."""
    for stage in stages:
        staleness = staleness_in(folder)
        for cell in [cell for cell in staleness.graph.cells() if cell.stage.name == stage]:
            STAGES[stage].run(staleness.job(cell))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        ("Permutation", "has state that its state dict lacks"),
        ("BatchCentered", "depend on the batch it is in"),
        ("Auxiliary", "returns tuple for two images in training mode"),
        ("Noise", "set `draws: 20`"),
    ],
)
def test_an_unsound_network_is_refused_before_it_is_trained(folder: Path, network: str, complaint: str) -> None:
    """No file of the model is written."""
    configure(folder, network)
    run(folder, "prepare")
    with pytest.raises(InputError, match=complaint):
        run(folder, "train")
    assert not list(folder.glob("results/**/*.safetensors"))


@pytest.mark.parametrize("network", ["Lazy", "Scripted", "Noise"])
def test_other_networks_of_ones_own_give_rows(folder: Path, network: str) -> None:
    """Lazy layers, scripted networks and random ones with draws are trained, attacked and probed."""
    configure(folder, network, **({"draws": 2} if network == "Noise" else {}))
    run(folder, "prepare", "train", "evaluate", "diagnose")
    staleness = staleness_in(folder)
    (cell,) = [cell for cell in staleness.graph.cells() if cell.stage.name == "evaluate"]
    assert len(read_table(paths.samples(cell))) == 20
    assert read_metadata(paths.samples(cell))["gauntlet.arithmetic"] == "ieee"


def test_a_refusal_names_the_cell(folder: Path) -> None:
    """A random model whose attack no longer has draws is refused with the cell's name."""
    configure(folder, "Noise", draws=2)
    run(folder, "prepare", "train")
    configure(folder, "Noise")
    with pytest.raises(InputError, match=r"^evaluate tiny variant=own seed=1 attack=f: the model's outputs differ"):
        run(folder, "evaluate")


def test_a_random_network_next_to_a_certified_one_is_trained(folder: Path) -> None:
    """Certificates and attacks that have no cell for a variant decide nothing about it; a refusal names the cell."""
    configure(folder, "Noise", draws=2)
    file = folder / "config.yaml"
    settings = parse_yaml(file.read_text())
    experiment = settings["experiments"]["tiny"]
    experiment["variants"]["lipschitz"] = {"model": "lipschitz_cnn", "loss": "hkr"}
    experiment["attacks"]["transferred"] = {**FGSM, "transfer_from": "own"}
    experiment["certificates"] = {"lipschitz": {"name": "lipschitz"}}
    write_config(folder, settings)
    run(folder, "prepare", "train")
    assert len(list(folder.glob("results/tiny/models/*/*/model.safetensors"))) == 2
    experiment["certificates"] = {"smooth": {"name": "smoothing", "sigma": 0.25, "n0": 10, "n": 100}}
    experiment["training"]["epochs"] = 2
    write_config(folder, settings)
    with pytest.raises(InputError, match=r"^train tiny variant=own seed=1: .*certify only models that are not random"):
        run(folder, "train")
