"""The examples of docs/checkpoints.md are run: a checkpoint in the pipeline and in a notebook."""

from __future__ import annotations

import argparse
import re

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional
from typer.testing import CliRunner

import gauntlet
from gauntlet.cli import app, main
from gauntlet.core.parquet import read_metadata
from tests.support import ROOT
from tests.support.page_folders import entered

PAGE = (ROOT / "docs" / "checkpoints.md").read_text()
NETWORK = '''
from torch import nn

class MyNet(nn.Module):
    """Linear classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, num_classes, bias=False)

    def forward(self, x):
        return self.linear(x.flatten(1))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a network, its checkpoint and the configuration of the page."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "mynet.py").write_text(NETWORK)
    (folder / "config.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1])
    digits = load_digits()
    images, targets = (
        torch.tensor(digits.images / 16).float().flatten(1),
        functional.one_hot(torch.tensor(digits.target)),
    )
    weights = torch.linalg.lstsq(images, targets.float()).solution.T.contiguous()
    torch.save({"epoch": 3, "state_dict": {"module.linear.weight": weights}}, folder / "published.pt")
    with entered(folder, "mynet"):
        yield folder


def test_the_notebook_runs(folder):
    """The first block of Python evaluates the checkpoint."""
    namespace: dict = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[1], namespace)
    assert namespace["rows"].num_rows == 100
    assert "already_wrong" in namespace["rows"]["status"].to_pylist()
    assert 0 < gauntlet.robust_accuracy(namespace["rows"], 0.02) < 1


def test_the_configuration_adopts_the_checkpoint(folder):
    """`load_model` loads the result by the path of the page."""
    for command in ("check", "prepare", "train"):
        done = CliRunner().invoke(app, [command])
        assert done.exit_code == 0, done.output
    model = folder / re.search(r"gauntlet\.load_model\(\"(.*?)\"\)", PAGE)[1]
    assert gauntlet.load_model(model).body.linear.weight.shape == (10, 64)
    assert float(read_metadata(model / "history.parquet")["gauntlet.validation_accuracy"]) > 0.9


def test_a_checkpoint_that_is_refused_ends_the_command_with_exit_code_2(folder, capsys, monkeypatch):
    """One line, on stderr."""
    content = (folder / "published.pt").read_bytes()
    torch.save({"state_dict": {}, "args": argparse.Namespace(lr=0.1)}, folder / "published.pt")
    try:
        assert CliRunner().invoke(app, ["prepare"]).exit_code == 0
        monkeypatch.setattr("sys.argv", ["gauntlet", "train"])
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # the command sets it for processes that it starts
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        (folder / "published.pt").write_bytes(content)
    assert caught.value.code == 2
    assert re.fullmatch(r"gauntlet: published\.pt: .*\(argparse\.Namespace\): pickles.*\n", capsys.readouterr().err)
