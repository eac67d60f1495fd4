"""A network that normalizes inside and is normalized again: warned of in the log, in its manifest and on the page."""

from __future__ import annotations

import json
import logging
import re

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from gauntlet.pipeline import paths
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

ADOPTED = {"model": f"{__name__}:Inside", "weights": "inside.pt"}
CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits"},
            "samples": 8,
            "variants": {
                "twice": {**ADOPTED, "normalize": "data"},
                "once": {**ADOPTED, "normalize": "none"},
            },
            "diagnostics": {"samples": 2, "steps": 1},
            "attacks": {"fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}},
        }
    },
    "execution": {"device": "cpu"},
}
WARNING = r"accuracy on \d+ validation images: .*the model seems to normalize inside: set `normalize: none`"


class Inside(nn.Module):
    """Linear classifier of normalized pixels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, num_classes)

    def forward(self, x):
        """Map images to logits."""
        return self.layer(normalized(x))


def normalized(x):
    """Normalize images, with about the mean and standard deviation of the digits."""
    return (x.flatten(1) - 0.3) / 0.38


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both models, adopted; their page is not made."""
    folder = tmp_path_factory.mktemp("normalized")
    digits = load_digits()
    network, values = Inside(10), normalized(torch.tensor(digits.images / 16).float())
    values = torch.cat([values, torch.ones(len(values), 1)], 1)
    solved = torch.linalg.lstsq(values, functional.one_hot(torch.tensor(digits.target)).float()).solution.T
    network.load_state_dict({"layer.weight": solved[:, :-1], "layer.bias": solved[:, -1]})
    torch.save(network.state_dict(), folder / "inside.pt")
    write_config(folder, CONFIG)
    return folder


@pytest.fixture
def entered(folder, monkeypatch):
    """The folder as working folder."""
    monkeypatch.chdir(folder)
    return folder


def make(folder, *stages):
    """Make the cells of some stages, or of all, that are not current."""
    for cell in list(staleness_in(folder).graph.cells()):
        staleness = staleness_in(folder)
        if (not stages or cell.stage.name in stages) and not staleness.is_current(cell):
            cell.stage.run(staleness.job(cell))


def test_the_second_normalization_is_logged_and_kept_in_the_manifest(entered, caplog):
    """With both accuracies and the setting that is right; the same weights without it are not warned of."""
    with caplog.at_level(logging.WARNING):
        make(entered, "prepare", "train")
    assert re.search(f"variant=twice seed=0: {WARNING}", caplog.text)
    twice, once = (
        json.loads(paths.model_manifest(make_cell("train", "tiny", name, 0)).read_text()) for name in ("twice", "once")
    )
    assert re.fullmatch(WARNING, *twice["warnings"])
    assert "warnings" not in once


@pytest.mark.slow
def test_the_second_normalization_is_named_on_the_page(entered):
    """Once, with the variant and the seed."""
    make(entered)
    page = paths.report("tiny").read_text()
    assert len(re.findall(f"twice, seed 0: {WARNING}", page)) == 1
    assert "once, seed 0" not in page
