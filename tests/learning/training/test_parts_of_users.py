"""Parts that users write: their draws are functions of seed, epoch and step, and what they return is checked."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gauntlet.config.variants import Training
from gauntlet.core.errors import InputError, Interrupted
from gauntlet.core.signals import StopRequest
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import Split
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.run import TrainingRun
from gauntlet.learning.training.weight_average import WeightAverage
from gauntlet.registry import Spec

DATA = prepare(Spec("sklearn_digits"), limit={"train": 250, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
PARTS = "tests.support.drawing_parts"
CNN, ENTROPY = Spec("cnn", {"widths": [2, 2]}), Spec("cross_entropy")
NORMED = Spec("resnet", {"capacity": 0.05, "head": {"name": "sigmoid", "hidden": 0}})
DRAWING: dict[str, tuple[Spec, Spec, dict[str, Any]]] = {
    **{
        f"augmentation by {library}": (CNN, ENTROPY, {"augmentation": [f"{PARTS}:darken_by_{library}"]})
        for library in ("torch", "numpy", "python")
    },
    "layer in training": (Spec(f"{PARTS}:SkippedLayer"), ENTROPY, {}),
    "random network": (Spec(f"{PARTS}:NoisyInput"), ENTROPY, {"recovery": {"samples": 50}}),
    "loss": (CNN, Spec(f"{PARTS}:RandomTargets"), {}),
}


def settings(**keys: Any) -> Training:
    """Return settings of two epochs of four steps."""
    return Training.model_validate({"epochs": 2, "batch_size": 50, **keys})


def built(model: Spec = CNN, *, seed: int = 0) -> Network:
    """Return a network for the digits."""
    return build(model, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std, seed=seed)


class StopAfter(StopRequest):
    """Request to stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    @property
    def requested(self) -> bool:
        """Count the steps after which this is asked."""
        self.steps -= 1
        return self.steps <= 0


def draw_elsewhere() -> None:
    """Move all global generators, as other work in the process does."""
    torch.rand(3)
    np.random.rand(3)
    random.random()


@pytest.mark.parametrize("name", DRAWING)
def test_draws_from_global_generators_depend_on_the_seed_alone(name: str, tmp_path: Path) -> None:
    """Other work in the process and an interruption change neither weights nor history."""
    model, loss, keys = DRAWING[name]

    def outcome(seed: int = 0, **how: Any) -> tuple[str, list[dict[str, Any]]]:
        fitted = fit(built(model, seed=seed), loss, *SPLITS, settings=settings(**keys), seed=0, **how)
        history = fitted.history.drop_columns(list(VOLATILE)).to_pylist()
        return tensor_digest(fitted.network.state_dict()), history

    unbroken = outcome()
    draw_elsewhere()
    assert outcome() == unbroken
    store = Checkpoints(tmp_path / "checkpoint", recipe="")
    with pytest.raises(Interrupted):
        outcome(checkpoints=store, stop=StopAfter(2))
    draw_elsewhere()
    assert outcome(seed=5, resume=store.load()) == unbroken


def test_training_leaves_all_global_generators_alone() -> None:
    """Those of torch, NumPy and Python."""
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    fit(built(), ENTROPY, *SPLITS, settings=settings(epochs=1), seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_each_group_of_an_optimizer_keeps_its_learning_rate() -> None:
    """The schedule multiplies the rate of every group."""
    chosen = settings(optimizer=f"{PARTS}:faster_biases", schedule={"name": "step", "milestones": [1]})
    run = TrainingRun(built(), ENTROPY, *SPLITS, settings=chosen, seed=0)
    for rates in ([0.1, 1.0], [0.01, 0.1]):
        run.run_epoch()
        assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx(rates)


def test_a_loss_with_parameters_is_refused() -> None:
    """They would stay as they were drawn; frozen ones are accepted."""
    with pytest.raises(InputError, match=r"TrainedTargets has parameters that nothing trains \(targets\)"):
        build_loss(Spec(f"{PARTS}:TrainedTargets"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("brighten", r"pixels from 0\.5 to 1\.5"),
        ("drop_channels", r"float32 \(50, 8, 8\)"),
        ("to_double", "float64"),
        ("to_list", "a list"),
    ],
)
def test_an_augmentation_that_returns_anything_else_is_refused(name: str, found: str) -> None:
    """The message names it, what it returned and what was expected."""
    chosen = settings(augmentation=["flip", f"{PARTS}:{name}"])
    expected = rf"{name} returns {found}.*return float32 \(50, 1, 8, 8\) on cpu, with pixels in \[0, 1\]"
    with pytest.raises(InputError, match=expected):
        fit(built(), ENTROPY, *SPLITS, settings=chosen, seed=0)


def test_a_mixture_of_other_shapes_is_refused() -> None:
    """Not the loss, which has a value per sample."""
    with pytest.raises(InputError, match=r"50 images has shares of shape \(50, 1, 1, 1\); return one of each image"):
        fit(built(), ENTROPY, *SPLITS, settings=settings(mixing=f"{PARTS}:mix_in_columns"), seed=0)


def test_batch_normalization_of_single_images_is_refused() -> None:
    """A batch of one image has no variance over maps of one pixel."""
    with pytest.raises(InputError, match="no batch statistics") as refused:
        fit(built(NORMED), Spec("sigmoid_bce"), *SPLITS, settings=settings(batch_size=1), seed=0)
    assert refused.value.where == "training.batch_size"


def test_few_negatives_have_batch_statistics() -> None:
    """A last batch of two images, with a quarter as many negatives, is trained on."""
    train = Split(DATA.splits["train"].images[:52], DATA.splits["train"].labels[:52])
    chosen = settings(epochs=1, negatives={"name": "overlay", "share": 0.25})
    assert len(fit(built(NORMED), Spec("sigmoid_bce"), train, SPLITS[1], settings=chosen, seed=0).history) == 1


def test_running_statistics_of_instances_are_averaged() -> None:
    """Like those of batches: the averaged weights are evaluated with them."""
    network = built(Spec(f"{PARTS}:InstanceStatistics"))
    average = WeightAverage(0.9, network)
    mean = network.get_buffer("body.norm.running_mean")
    before = mean.clone()
    mean.add_(1.0)
    average.update()
    # In the first step the past has the weight 2 / 11.
    torch.testing.assert_close(average.state.weights["body.norm.running_mean"], before + 9 / 11)
