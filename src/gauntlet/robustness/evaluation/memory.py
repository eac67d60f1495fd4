"""Batch sizes of an attack on a GPU, from the memory that its passes need."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.batch_size import BatchSize
from gauntlet.core.device_memory import DeviceMemory, measured_batch_size
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel


def fit_to_memory(model: AttackModel, images: Tensor, memory: DeviceMemory, *, takes_gradients: bool) -> None:
    """Set the batch sizes of a model's passes, and of its judge's, to what fits; they never exceed the present ones.

    `images` `(N, C, H, W)`, of which the first is measured, are on the model's device. Raises what the model raises.
    """
    image = images[:1].to(model.dtype)

    def attack(size: int) -> None:
        x = image.expand(size, *image.shape[1:])
        model.start_counting(size)
        with float32_arithmetic(model.arithmetic):
            if takes_gradients:
                y = model.counts.active.new_zeros(size)
                model.gradients(x, y, UNTARGETED_LOSSES["cross_entropy"])
            else:
                model.logits(x)

    def judge(size: int) -> None:
        model.judge.logits(image.expand(size, *image.shape[1:]))

    for memory_of_passes, run in ((model.memory, attack), (model.judge.memory, judge)):
        most = memory_of_passes.size

        def whole(size: int, run: Callable[[int], None] = run, passes: BatchSize = memory_of_passes) -> None:
            passes.start_with(size)
            run(size)
            if passes.reduced:
                raise MemoryError("the batch was halved")

        try:
            most = measured_batch_size(memory, whole, most=most)
        finally:
            memory_of_passes.start_with(most)
