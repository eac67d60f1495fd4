"""`gauntlet check --power`: the training seeds that an experiment needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config import load
from gauntlet.core.errors import InputError
from gauntlet.core.parquet import write_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.status.power import power_text
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.aggregation.comparisons import COMPARISONS_SCHEMA
from gauntlet.reporting.stats import paired_t_test, t_interval
from gauntlet.reporting.stats.power import seeds_needed

EXPERIMENT = """
experiments:
  small:
    dataset: {source: sklearn_digits}
    seeds: [0, 1, 2, 3]
    variants: {one: {model: cnn}, two: {model: cnn, normalize: none}, three: {model: cnn, training: {batch_size: 32}}}
    attacks:
      pgd: {name: pgd, norm: linf, epsilons: [0.1, 0.2]}
    headline: {linf: [0.2]}
"""


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    """Write an experiment of three variants into the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(EXPERIMENT)
    return tmp_path / "config.yaml"


def compared(measure: str, epsilon: float, differences: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    """Make rows of comparisons, with the intervals and p-values of some differences per seed."""
    rows = []
    for (variant, other), values in differences.items():
        low, high = t_interval(values)
        p = float(paired_t_test(values))
        rows.append(
            {
                "measure": measure,
                "name": "" if measure == "clean" else "worst:linf",
                "norm": "" if measure == "clean" else "linf",
                "epsilon": epsilon,
                "variant": variant,
                "other": other,
                "seeds": len(values),
                "t_low": None if np.isnan(low) else float(low),
                "t_high": None if np.isnan(high) else float(high),
                "t_p": None if np.isnan(p) else p,
            }
        )
    return rows


def store(rows: list[dict[str, Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Write rows of comparisons where the aggregation writes them."""
    paths.comparisons("small").parent.mkdir(parents=True)
    write_table(paths.comparisons("small"), pa.Table.from_pylist(rows, COMPARISONS_SCHEMA), metadata or {})


PAIRS = {
    ("one", "two"): [0.01, 0.02, 0.03, 0.06],
    ("one", "three"): [0.0, 0.01, 0.0, 0.01],
    ("two", "three"): [0.1] * 4,
}


def test_the_seeds_follow_from_the_spread_of_the_finished_ones(config):
    """The median and the largest deviation count; a pair without spread says nothing, but is corrected for."""
    store([*compared("clean", 0.0, PAIRS), *compared("robust", 0.1, PAIRS), *compared("robust", 0.2, PAIRS)])
    text = power_text(load([config]), 2.0)
    stds = [np.std(values, ddof=1) for values in list(PAIRS.values())[:2]]
    one = seeds_needed(np.median(stds), 0.02, significance=0.05)
    every = seeds_needed(max(stds), 0.02, significance=0.05 / 3)
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines() if "clean accuracy" in line or "worst case" in line]
    assert [row[0] for row in rows] == ["clean accuracy", "worst case, L∞, ε = 0.2"]
    for row in rows:
        assert row[1] == "4"
        assert row[2].startswith(f"{100 * np.median(stds):.2f} (")
        assert row[3].startswith(f"{one} (")
        assert row[4].startswith(f"{max(one - 4, 0)} (")
        assert row[5].startswith(f"{every} (")
        assert row[6].startswith(f"{every - 4} (")


def test_the_budget_is_that_of_the_tables_whatever_units_the_configuration_has(config):
    """Both attacks share the largest budget, which is 0.09 in the pixels of the results and 0.3 in normalized units."""
    attacks = "wide: {name: pgd, norm: linf, units: normalized, epsilons: [0.1, 0.2, 0.3]}"
    attacks += "\n      near: {name: fgsm, norm: linf, units: normalized, epsilons: [0.3]}"
    text = EXPERIMENT.replace("pgd: {name: pgd, norm: linf, epsilons: [0.1, 0.2]}", attacks)
    config.write_text(text.replace("    headline: {linf: [0.2]}\n", ""))
    settings = load([config])
    design = design_from_config("small", settings.experiments["small"])
    pixels = tuple(replace(one, epsilons=tuple(0.3 * value for value in one.epsilons)) for one in design.attacks)
    grid = pixels[0].epsilons
    rows = [row for epsilon in grid for row in compared("robust", epsilon, PAIRS)]
    store(rows, replace(design, attacks=pixels).metadata())
    assert re.findall(r"worst case, L∞, ε = ([\d.]+)", power_text(settings, 2.0)) == [f"{grid[-1]:.4g}"]


def test_a_smaller_difference_needs_more_seeds(config):
    """The number is that of the difference asked for."""
    store(compared("clean", 0.0, PAIRS))
    needed = [
        int(re.search(r"clean accuracy .*?\) +(\d+) \(", power_text(load([config]), delta))[1]) for delta in (4, 1)
    ]
    assert needed[0] < needed[1]


@pytest.mark.parametrize("rows", [None, [], compared("clean", 0.0, {("one", "two"): [0.1]})])
def test_without_two_seeds_nothing_is_planned(config, rows):
    """No results, no pairs, or one seed: the reason is one line."""
    if rows is not None:
        store(rows)
    assert re.fullmatch("small: no two variants have results of two seeds or more, .*", power_text(load([config]), 2.0))


@pytest.mark.parametrize("points", [0, -1, 101, float("nan")])
def test_a_difference_that_cannot_be_is_refused(config, points):
    """It is in percentage points."""
    with pytest.raises(InputError, match="percentage points"):
        power_text(load([config]), points)


def test_the_command_prints_it(config):
    """`gauntlet check --power` shows it below the numbers of cells."""
    store(compared("clean", 0.0, PAIRS))
    result = CliRunner().invoke(app, ["check", "config.yaml", "--power", "2"])
    assert result.exit_code == 0
    assert result.output.index("evaluate") < result.output.index("that show a difference of 2 points")
