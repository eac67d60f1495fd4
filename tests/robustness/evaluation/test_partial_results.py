"""Partial results: an evaluation resumes after its finished parts, in shards or not, and repeats damaged ones."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.core.errors import InputError, Interrupted
from gauntlet.core.signals import STOPPING, StopRequest
from gauntlet.registry import Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate_parts, merge_parts
from gauntlet.robustness.evaluation.partial_results import PartialResults
from gauntlet.robustness.evaluation.shards import Shard, default_batch_size, default_pass_size, part_ranges, remaining

DRAWS = torch.Generator().manual_seed(0)
IMAGES = torch.rand((23, 1, 4, 4), generator=DRAWS)
NETWORK = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
with torch.no_grad():
    NETWORK[1].weight.copy_(torch.randn((3, 16), generator=DRAWS))
    NETWORK[1].bias.zero_()
LABELS = NETWORK(IMAGES).argmax(1)
PLAN = AttackSettings("pgd", Spec("pgd", {"steps": 4}), "linf", (0.02, 0.1))
PARTS = part_ranges(len(IMAGES), part_size=5)


def attacked(which, **how):
    """Evaluate some ranges."""
    settings = {"identity": CellIdentity("e", "v", 0), "keep_examples": 4, "precision": "float32", **how}
    return list(evaluate_parts(NETWORK, IMAGES, LABELS, PLAN, ranges=which, **settings))


def outcome(parts):
    """Return everything that an evaluation decides."""
    whole = merge_parts(parts, keep_examples=4)
    return whole.rows.to_pylist(), {name: array.tolist() for name, array in whole.examples.items()}


@pytest.mark.parametrize("keep", [4, 0])
def test_parts_are_read_as_written(tmp_path, keep):
    """Rows and examples keep types and order, whatever the order of writing."""
    parts = attacked(PARTS, keep_examples=keep)
    kept = PartialResults(tmp_path / "p", recipe="r")
    for part in random.Random(0).sample(parts, len(parts)):
        kept.save(part, seconds=1.5)
    reader = PartialResults(tmp_path / "p", recipe="r")
    back = reader.load()
    assert reader.loaded_s == 1.5 * len(parts)
    assert [(part.start, part.stop) for part in back] == PARTS
    assert outcome(back) == outcome(parts)
    assert [part.rows.schema for part in back] == [part.rows.schema for part in parts]
    assert {part.precision for part in back} == {"float32"}
    for one, other in zip(back, parts, strict=True):
        assert {k: (v.dtype, v.shape) for k, v in one.examples.items()} == {
            k: (v.dtype, v.shape) for k, v in other.examples.items()
        }
    assert PartialResults(tmp_path / "p", recipe="other").load() == []
    assert PartialResults(tmp_path / "nothing", recipe="r").load() == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "swapped"])
@pytest.mark.parametrize("suffix", ["parquet", "safetensors"])
def test_a_damaged_part_is_ignored_and_repeated(tmp_path, caplog, suffix, damage):
    """A part that is truncated, changed, missing or swapped is repeated with the same rows."""
    parts = attacked(PARTS)
    kept = PartialResults(tmp_path, recipe="r")
    for part in parts:
        kept.save(part, seconds=1.5)
    files = sorted(tmp_path.glob(f"part-*.{suffix}"))
    content = files[1].read_bytes()
    # The middle of a table is data, and so is the end of a file of tensors.
    at = 20 if suffix == "parquet" else len(content) - 9
    match damage:
        case "truncated":
            files[1].write_bytes(content[:-5])
        case "flipped":
            files[1].write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        case "gone":
            files[1].unlink()
        case "swapped":
            files[1].write_bytes(files[2].read_bytes())
    back = kept.load()
    left = remaining(PARTS, [(part.start, part.stop) for part in back])
    assert left == [PARTS[1]]
    assert ("samples 5 to 9 are evaluated again" in caplog.text) == (damage != "gone" or suffix == "safetensors")
    assert outcome([*back, *attacked(left)]) == outcome(parts)


def test_a_part_with_errors_is_not_kept(tmp_path):
    """A retry attacks its samples again."""
    part = attacked(PARTS[:1])[0]
    with pytest.raises(ValueError, match="not finished"):
        PartialResults(tmp_path, recipe="r").save(replace(part, errors=("sample 3: it is too far",)), seconds=1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_precision_of_every_part_is_recorded():
    """Shards on different devices may have chosen different precisions."""
    first, second = attacked(PARTS[:2])
    assert merge_parts([first, second]).precision == "float32"
    assert merge_parts([first, replace(second, precision="bfloat16")]).precision == "bfloat16, float32"


@given(
    samples=st.integers(1, 60),
    part_size=st.integers(1, 20),
    shards=st.integers(1, 9),
    done=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_shards_and_finished_parts_cover_every_sample_once(samples, part_size, shards, done):
    """Finished parts of any grid and the remaining ranges cover each sample once."""
    grid = part_ranges(samples, part_size=part_size, shards=shards)
    assert [n for start, stop in grid for n in range(start, stop)] == list(range(samples))
    assert all(stop - start <= part_size for start, stop in grid)
    each = [part_ranges(samples, part_size=part_size, shard=Shard(number, shards)) for number in range(1, shards + 1)]
    assert list(itertools.chain(*each)) == grid, "a shard's parts are the whole's"
    finished = [
        (n, n + len(list(run)))
        for n, run in ((group[0], group) for key, g in itertools.groupby(range(samples), done.__getitem__) if key
                       for group in [list(g)])
    ]  # fmt: skip
    left = remaining(grid, finished)
    covered = sorted(n for start, stop in [*left, *finished] for n in range(start, stop))
    assert covered == list(range(samples))


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3"])
def test_an_invalid_shard_is_refused(text):
    """The one-line error shows a valid shard."""
    with pytest.raises(InputError, match=r"--shard: .* is not a shard; write I/N, such as 2/8"):
        Shard.parse(text)


def test_parts_of_another_grid_are_used_without_overlap(tmp_path):
    """If the shards change during a run, no finished sample is repeated or counted twice.

    Batches of another size may round otherwise in float32, so numbers agree to six digits and all else exactly.
    """
    kept = PartialResults(tmp_path, recipe="r")
    for part in attacked([(0, 5), (3, 8), (10, 20), (10, 12)]):
        kept.save(part, seconds=1.5)
    back = kept.load()
    assert [(part.start, part.stop) for part in back] == [(0, 5), (10, 20)]
    left = remaining(PARTS, [(part.start, part.stop) for part in back])
    assert left == [(5, 10), (20, 23)]
    rows, wanted = (outcome(parts)[0] for parts in ([*back, *attacked(left)], attacked(PARTS)))
    assert len(rows) == len(wanted)
    for row, other in zip(rows, wanted, strict=True):
        numbers = [name for name, value in other.items() if isinstance(value, float)]
        assert [row.pop(name) for name in numbers] == pytest.approx([other.pop(name) for name in numbers], rel=1e-6)
        assert row == other


def test_slow_work_is_abandoned_after_the_grace_period():
    """The error cannot be caught by an attack's own handlers."""

    def work():
        with StopRequest("cell", grace_s=0.05) as stop:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert stop.requested
            time.sleep(10)

    with pytest.raises(Interrupted, match="cell: stopped by SIGUSR2; the current step was abandoned"):
        work()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_handlers_are_restored_and_a_late_signal_is_sent_again():
    """A signal during the last step reaches the earlier handler."""
    before = [signal.getsignal(number) for number in STOPPING]
    seen = []
    real = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert (stop.requested, seen) == (True, [])
        assert seen == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, real)
    assert [signal.getsignal(number) for number in STOPPING] == before


@pytest.mark.parametrize(("image", "size"), [((1, 8, 8), 256), ((3, 32, 32), 128), ((3, 224, 224), 16)])
def test_larger_images_pass_in_smaller_batches_on_a_processor(image: tuple[int, int, int], size: int) -> None:
    """A pass never has more images than a part; on a GPU it has as many."""
    assert default_pass_size("cpu", image) == size
    assert default_pass_size("cuda", image) == default_batch_size("cuda")
