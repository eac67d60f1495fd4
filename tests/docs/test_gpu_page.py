"""The page about GPUs: written from the stored results, and by measurements that work without a GPU too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_that_of_the_stored_results():
    """Edit `benchmarks/gpu_page.md`, then run `python benchmarks/gpu_page.py`."""
    assert (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8") == gpu_page.page(gpu_page.stored_results())


def test_the_page_shows_results_and_missed_targets():
    """A target that is missed is called so, and what there was no time for is named."""
    row = {"work": "w", "peer": "p", "ours_s": 2.0, "peer_s": 3.0, "target": 2.0, "remark": "r"}
    results = {"device": "H200", "cores": 16, "torch": "2", "commit": "c" * 40, "date": "d", "command": "python x"}
    text = gpu_page.page({**results, "rows": [row, {**row, "target": None}], "left_out": ["autoattack"]})
    assert "| w | p | 2 | 3 | 1.50 | ≥ 2 (missed) | r |" in text
    assert "| w | p | 2 | 3 | 1.50 | – | r |" in text
    assert "H200, 16 CPU cores, torch 2, commit cccccccccccc, d: `python x`." in text
    assert "Left out for lack of time: autoattack." in text


@pytest.mark.slow
def test_every_measurement_works():
    """Very small, on the CPU, which also shows that both sides find the same."""
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(gpu_page.DESCRIPTIONS)


@pytest.mark.slow
def test_tests_for_a_gpu_work():
    """Some of them, on the CPU: they are skipped wherever else they are run without a GPU."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        "tests/gpu",
        "-k",
        "judge or first_batch or pgd-l2",
    ]
    environment = {**os.environ, "GAUNTLET_TEST_DEVICE": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout
