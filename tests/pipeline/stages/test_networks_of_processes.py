"""Networks whose state lives in a process: trained in one, they are refused by the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet.core.parquet import read_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.prepare import run as prepare
from gauntlet.pipeline.stages.train import run as train
from tests.support import ROOT
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

STAGES = {"prepare": prepare, "train": train}

EVALUATE = """
import contextlib, io, json, sys
from gauntlet import cli

ended = {}
for variant in sys.argv[1:]:
    sys.argv, error = ["gauntlet", "--quiet", "evaluate", "--variant", variant], io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            cli.main()
        except SystemExit as ending:
            ended[variant] = [ending.code or 0, error.getvalue()]
print(json.dumps(ended))
"""
"""Program that evaluates variants in its process, and prints exit codes and what the command says."""


def test_a_network_is_evaluated_if_it_is_the_one_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the folder, the kind of state and the remedy; a draw that is unused changes nothing."""
    networks = {"fresh": "OfModule", "unused": "Unused"}
    tiny = {
        "dataset": {"source": "sklearn_digits", "limit": {"train": 80, "test": 20}},
        "seeds": [1],
        "training": {"epochs": 1},
        "diagnostics": {"enabled": False},
        "variants": {key: {"model": f"tests.support.process_networks:{name}"} for key, name in networks.items()},
        "attacks": {"f": {"name": "fgsm", "norm": "linf", "epsilons": [0.05]}},
    }
    write_config(tmp_path, {"experiments": {"tiny": tiny}, "execution": {"device": "cpu"}})
    monkeypatch.chdir(tmp_path)
    for stage, module in STAGES.items():
        staleness = staleness_in(tmp_path)
        for cell in [cell for cell in staleness.graph.cells() if cell.stage.name == stage]:
            module.run(staleness.job(cell))

    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", EVALUATE, *networks]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    ended = json.loads(done.stdout.splitlines()[-1])

    code, message = ended["fresh"]
    assert code == 2
    assert message.count("\n") == 1
    for part in ("models/variant=fresh/seed=1", "another network than the one that was trained", "persistent buffer"):
        assert part in message
    assert not paths.samples(make_cell("evaluate", "tiny", "fresh", 1, "f")).exists()
    assert ended["unused"] == [0, ""]
    assert len(read_table(paths.samples(make_cell("evaluate", "tiny", "unused", 1, "f")))) == 20
