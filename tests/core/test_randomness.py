"""Random draws that depend on their address alone."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from gauntlet.core.randomness import derive_seed, generator, integers, normal, sample_keys, uniform

HASHES = [f"sample {number}" for number in range(400)]


@pytest.mark.parametrize("draw", [uniform, normal], ids=["uniform", "normal"])
def test_a_sample_draws_the_same_in_any_batch(draw):
    """Row i depends on its own key only, not on the batch or its order."""
    keys = sample_keys(0, "attack", HASHES)
    whole = draw(keys, (3, 5), stream="start")
    order = torch.randperm(len(keys), generator=generator("order"))
    assert torch.equal(draw(keys[order][:7], (3, 5), stream="start"), whole[order][:7])


def test_address_parts_are_not_confused():
    """Joined or retyped parts of an address give another address."""
    assert len({derive_seed("a", "b"), derive_seed("ab"), derive_seed("a", 1), derive_seed("a", "1")}) == 4
    keys = sample_keys(0, "attack", HASHES)
    assert not torch.equal(uniform(keys, (4,), stream=0), uniform(keys, (4,), stream=1))
    assert not torch.equal(keys, sample_keys(1, "attack", HASHES))


def test_draws_have_their_distributions():
    """Uniform, normal and integer draws pass tests of their distributions."""
    keys = sample_keys(0, "attack", HASHES)
    flat = uniform(keys, (50,), stream="u", dtype=torch.float64).flatten()
    assert flat.min() >= 0
    assert flat.max() < 1
    assert stats.kstest(flat.numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(normal(keys, (50,), stream="n", dtype=torch.float64).flatten().numpy(), "norm").pvalue > 1e-3
    counts = torch.bincount(integers(keys, (50,), 7, stream="i").flatten(), minlength=7)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_samples_are_uncorrelated():
    """Different samples draw independently of each other."""
    draws = uniform(sample_keys(0, "attack", HASHES[:40]), (4000,), stream="u")
    off_diagonal = torch.corrcoef(draws) - torch.eye(40)
    assert off_diagonal.abs().max() < 6 / 4000**0.5


def test_float64_and_float32_draw_the_same_numbers():
    """A conformance run in float64 has the starting points of a float32 run."""
    keys = sample_keys(0, "attack", HASHES)
    double = uniform(keys, (9,), stream="u", dtype=torch.float64)
    assert torch.equal(double, uniform(keys, (9,), stream="u").double())


@pytest.mark.parametrize("shape", [(3, 60, 200), (7,), (1, 8, 8)])
def test_normal_numbers_are_those_of_the_written_formulas(shape: tuple[int, ...]) -> None:
    """SplitMix64 and Box-Muller in Python's integers and floats, for rows and numbers in different blocks."""
    keys, size = [5, -7, 2**62], math.prod(shape)
    drawn = normal(torch.tensor(keys), shape, stream="s").reshape(3, size)
    mask = 2**64 - 1

    def mixed(state: int) -> int:
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ state >> 27) * 0x94D049BB133111EB & mask
        return state ^ state >> 31

    for row, key in enumerate(keys):
        start = mixed(key + derive_seed("stream", "s") & mask)
        for number in {0, size // 2, size - 1}:
            bits = mixed(start + (number + 1) * 0x9E3779B97F4A7C15 & mask)
            first, second = ((bits >> 32) + 0.5) / 2**32, (bits & 0xFFFFFFFF) / 2**32
            expected = math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)
            assert float(drawn[row, number]) == pytest.approx(expected, rel=1e-6, abs=1e-9)
