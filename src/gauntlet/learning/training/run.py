"""Training run: steps, validation, and the weights to keep: of the epoch that validation prefers, or of the last.

With an adversary it is the loss under the adversary: the clean validation loss would select an epoch after robust
overfitting, or one before the network became robust (Rice, Wong, Kolter 2020, arXiv:2002.11569).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gauntlet.core.device_errors import is_out_of_memory
from gauntlet.core.errors import GauntletError
from gauntlet.core.memory_format import fastest_memory_format, set_memory_format
from gauntlet.core.randomness import derive_seed, generator
from gauntlet.core.seeding import reseed, reseed_all, seeded
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.losses import build_loss, load_loss_state, loss_state
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary, build_adversary, draw_keys
from gauntlet.learning.training.buffers import BufferCopies
from gauntlet.learning.training.collapse_recovery import CollapseRecovery, NonFiniteLoss
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.history import EpochRecord, history_table
from gauntlet.learning.training.objective import StepLoss, TrainingObjective
from gauntlet.learning.training.optimizers import build_optimizer
from gauntlet.learning.training.precision import StepPrecision
from gauntlet.learning.training.schedules import Schedule
from gauntlet.learning.training.settings import TrainingSettings
from gauntlet.learning.training.split_passes import SplitPasses
from gauntlet.learning.training.state import BestEpoch, TrainingState, Weights, snapshot
from gauntlet.learning.training.tally import Tally
from gauntlet.learning.training.validation import Metrics, clean_metrics, robust_metrics
from gauntlet.learning.training.weight_average import WeightAverage
from gauntlet.registry import LOSSES, Spec

log = logging.getLogger("gauntlet")

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingResult:
    """Trained network in evaluation mode with the weights of epoch `kept_epoch` (counted from 1), and its history.

    `part_size` is the number of images computed at a time after memory ran out, else None.
    """

    network: Network
    kept_epoch: int
    history: pa.Table
    part_size: int | None = None


class TrainingRun:
    """A training run that can be stopped after any step and resumed."""

    def __init__(
        self,
        network: Network,
        loss: Spec,
        train: Split | StoredSplit,
        validation: Split | StoredSplit,
        *,
        settings: TrainingSettings,
        seed: int,
        device: str | torch.device = "cpu",
        processes: DataParallelGroup | None = None,
    ) -> None:
        self.network = network.to(device).train()
        set_memory_format(self.network, fastest_memory_format(self.network, torch.device(device)))
        self.processes = processes
        self.loss_spec, self.loss, self.has_kr = loss, build_loss(loss), bool(LOSSES.entry(loss.name).tags.get("kr"))
        if isinstance(self.loss, nn.Module):
            self.loss.to(device)
        self.adversary = None if settings.adversary is None else build_adversary(settings.adversary)
        validation_adversary = settings.validation_adversary
        self.validation_adversary = None if validation_adversary is None else build_adversary(validation_adversary)
        self.settings, self.seed, self.device = settings, seed, torch.device(device)
        augmentations = [build_augmentation(spec) for spec in settings.augmentation]
        self.batches = Batches(
            train, batch_size=settings.batch_size, seed=seed, device=device, augmentations=augmentations
        )
        self.validation = validation.to(device)
        sample = to_unit(self.batches.images[: 2 * (processes.world_size if processes else 1) + 2])
        # Images of a stored split are read onto the CPU.
        dtype = next((parameter.dtype for parameter in self.network.parameters()), sample.dtype)
        sample = sample.to(device, dtype)
        self.passes = SplitPasses(self.network, sample, batch_size=settings.batch_size, processes=processes)
        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(settings.optimizer, trainable)
        self.base_lrs: list[float] = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = Schedule(settings.schedule, warmup_epochs=settings.warmup_epochs)
        self.objective = TrainingObjective(
            self.network, self.loss, self.adversary, settings, seed=seed, steps=self.batches.steps, processes=processes
        )
        self.precision = StepPrecision(settings.precision, self.network, self.device)
        self.average = None if settings.ema is None else WeightAverage(settings.ema.decay, self.network)
        self.recovery = self._build_recovery()
        self.epochs, self.step = 0, 0
        self.best: BestEpoch | None = None
        self.history: list[EpochRecord] = []
        self.tally = Tally()

    @property
    def finished(self) -> bool:
        """True once all epochs are done, or no epoch of the last `patience` was better; these count from full ramps."""
        patience = self.settings.patience
        since_best = self.epochs - self.best.epoch if self.best and not self.best.ramps_rising else 0
        return self.epochs >= self.settings.epochs or (patience is not None and since_best >= patience)

    def state(self) -> TrainingState:
        """Return a copy of the state between two steps."""
        return self.live_state().copy()

    def live_state(self) -> TrainingState:
        """Return the state without copying its tensors, which the next step changes."""
        weights = {name: tensor.detach() for name, tensor in self.network.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        recovery = None if self.recovery is None else self.recovery.state
        progress = self.best, self.history, self.tally
        average = None if self.average is None else self.average.state
        loss = loss_state(self.loss)
        return TrainingState(self.epochs, self.step, weights, optimizer, *progress, recovery, loss, average)

    def fits(self, state: TrainingState) -> bool:
        """Return whether a state can belong to this run; log a warning if not."""
        own_shapes = _shapes(self.network.state_dict())
        stored = [part.weights for part in (state, state.best, state.recovery, state.average) if part is not None]
        group_sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        fits = (
            all(_shapes(weights) == own_shapes for weights in stored)
            and _shapes(state.loss) == _shapes(loss_state(self.loss))
            and [len(group["params"]) for group in state.optimizer["param_groups"]] == group_sizes
            and len(state.history) == state.epochs
            and len(state.tally.losses) == state.step <= self.batches.steps
            and (state.recovery is None) == (self.recovery is None)
            and (state.average is None) == (self.average is None)
        )
        if not fits:
            log.warning("the checkpoint does not fit the network, training starts from the beginning")
        return fits

    def restore(self, state: TrainingState) -> None:
        """Continue from a state of a run with the same arguments."""
        state = state.to(self.device)
        self.network.load_state_dict(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        load_loss_state(self.loss, state.loss)
        self.epochs, self.step = state.epochs, state.step
        self.best, self.history, self.tally = state.best, state.history, state.tally
        if self.recovery is not None and state.recovery is not None:
            self.recovery.state = state.recovery
        if self.average is not None and state.average is not None:
            self.average.state = state.average

    def run_epoch(self) -> EpochRecord:
        """Run the remaining steps of the current epoch, validate, and recover if the epoch collapsed.

        Raises GauntletError for a non-finite loss without recovery, and for a collapse that fails the training.
        """
        self.run_steps()
        if self.processes is not None:
            self.processes.check_weights(self.network)
        start_s, number = time.perf_counter(), self.epochs + 1
        trained = self.tally.metrics()
        self.network.eval()
        clean, robust, selecting, non_finite = None, None, None, None
        try:
            self.check_losses()
            with nullcontext() if self.average is None else self.average.applied():
                clean, robust, selecting = self._measured(self._validation_metrics)
        except NonFiniteLoss as error:
            if self.recovery is None:
                raise
            non_finite = error
        accuracy = None if self.recovery is None else self._measured(self.recovery.accuracy)
        self.network.train()
        collapse = (
            None if self.recovery is None or accuracy is None else self.recovery.collapse_reason(accuracy, non_finite)
        )
        if not collapse and selecting is not None:
            self._select(number, selecting)
        training_s = self.tally.seconds
        epoch = EpochRecord(
            epoch=number,
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            validation_loss=None if clean is None else clean.loss,
            validation_accuracy=None if clean is None else clean.accuracy,
            robust_validation_loss=None if robust is None else robust.loss,
            robust_validation_accuracy=None if robust is None else robust.accuracy,
            selection_loss=None if selecting is None else selecting.loss,
            train_kr=trained.kr,
            kr=None if clean is None else clean.kr,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            penalty=trained.penalty,
            sampled_accuracy=accuracy,
            collapsed=collapse is not None,
            ramps_frozen=self.network.ramps_frozen,
            steps_per_second=self.batches.steps / max(training_s, 1e-9),
            seconds=training_s + time.perf_counter() - start_s,
        )
        self.history.append(epoch)
        self.epochs, self.step, self.tally = number, 0, Tally()
        if self.recovery is not None and accuracy is not None:
            if collapse is None:
                self.recovery.record_good_epoch(number, accuracy)
            else:
                self.recovery.restore_good_epoch(number, collapse)
                if self.average is not None:
                    self.average.restart()
        return epoch

    def _select(self, number: int, selecting: Metrics) -> None:
        """Keep the weights of an epoch (from 1) that has not collapsed, if it is the best or the last one counts."""
        # Before all parts of the objective are on, the model is that of another training, whose loss may be lower.
        if number < self.objective.complete_from:
            return
        best, keep = self.best, self.settings.keep
        score = -selecting.accuracy if keep == "best_accuracy" else selecting.loss
        # While a ramp rises, so does a part of the model: its loss, too, is that of another model.
        rising = self.network.ramps_rising
        if best is None or (rising, score) < (best.ramps_rising, best.score):
            self.best = BestEpoch(number, score, rising, self._validated_weights(), number)
        elif keep == "last":
            self.best = replace(best, weights=self._validated_weights(), kept=number)

    def _validated_weights(self) -> Weights:
        """Copy the weights, or their average where there is one."""
        with nullcontext() if self.average is None else self.average.applied():
            return snapshot(self.network)

    def run_steps(self, count: int | None = None, *, pause: Callable[[], bool] | None = None) -> None:
        """Run the remaining steps of the current epoch, at most `count`, until `pause` returns True after a step."""
        start_s = time.perf_counter()
        self.network.ramps_frozen = self.recovery is not None and self.recovery.ramps_frozen(self.epochs + 1)
        end = self.batches.steps if count is None else min(self.batches.steps, self.step + count)
        batches = self.batches.epoch(self.epochs, start=self.step)
        with self._seeded("batches"):
            while self.step < end:
                # An augmentation or a layer of a user may draw from the global generators, of NumPy and Python too.
                reseed_all(derive_seed("train", self.seed, "batch", self.epochs, self.step), self.device)
                self._step(*next(batches))
                self.step += 1
                if pause is not None and pause():
                    break
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.tally.seconds += time.perf_counter() - start_s

    def result(self) -> TrainingResult:
        """Return the network with the weights of the epoch to keep, in evaluation mode."""
        if self.best is None and self.history:
            first = self.objective.complete_from
            since = "" if first == 1 else f" from epoch {first} on, in which all parts of training are on"
            raise GauntletError(f"training collapsed in every epoch{since}", remedy="lower `training.optimizer.lr`")
        if self.best is None:
            raise ValueError("no epoch has been run")
        self.network.eval()
        self.network.load_state_dict(self.best.weights)
        self.network.training_loss, self.network.training_precision = self.loss_spec, self.settings.precision
        return TrainingResult(self.network, self.best.kept, history_table(self.history), self.passes.part_size)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        seed = derive_seed("train", self.seed, "network", self.epochs, self.step)

        def gradients() -> StepLoss:
            # Dropout and other random layers draw from torch's global generator, which each step seeds anew.
            reseed(seed, self.device)
            self.optimizer.zero_grad(set_to_none=True)
            with self.precision.step():
                return self.objective.backward(images, labels, epoch=self.epochs, step=self.step)

        epoch, steps = self.epochs, self.batches.steps
        factor = self.schedule.factor(epoch, self.settings.epochs, step=self.step, steps=steps)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * factor
        step_loss = self._within_memory(gradients)
        if self.processes is not None:
            self.processes.average_gradients(self.network.parameters())
        if (clipping := self.settings.gradient_clipping) is not None:
            norm = math.inf if clipping.norm == "linf" else 2.0
            nn.utils.clip_grad_norm_(self.network.parameters(), clipping.limit, norm_type=norm)
        self.optimizer.step()
        self.network.after_step()
        if self.average is not None:
            self.average.update()
        # Nothing here waits for the device: metrics are collected as tensors and read once per epoch.
        outputs, labels = step_loss.outputs, step_loss.labels
        with torch.no_grad():
            correct = (self.network.decode(outputs).argmax(dim=1) == labels).sum()
        self.tally.correct = correct if self.tally.correct is None else self.tally.correct + correct
        self.tally.losses.append(step_loss.loss)
        if step_loss.penalty is not None:
            self.tally.penalties.append(step_loss.penalty)
        self.tally.sizes.append(len(labels))
        if self.has_kr:
            self.tally.outputs.append(outputs)
            self.tally.labels.append(labels)

    def _seeded(self, purpose: str) -> AbstractContextManager[None]:
        """Return a context with global generators that are seeded for a purpose; their states are restored."""
        return seeded(derive_seed("train", self.seed, purpose), self.device)

    def _measured(self, compute: Callable[[], T]) -> T:
        """Return what `compute` measures; a network that draws in evaluation has the same draws in every epoch."""

        def measure() -> T:
            with self._seeded("validation"):
                return compute()

        return self._within_memory(measure)

    def _within_memory(self, compute: Callable[[], T]) -> T:
        """Return what `compute` returns, called again with batches in smaller parts while memory runs out.

        Several processes cannot do so on their own: they would wait for each other (`MemoryRecord`).
        """
        while True:
            before = self._changing_state()
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if self.processes is not None or not is_out_of_memory(error):
                    raise
            # Here the traceback is gone, and with it the graph of the failed pass.
            self.optimizer.zero_grad(set_to_none=True)
            if before is not None:
                before.restore()
            self.passes.shrink()
            log.warning("memory ran out; batches are computed in parts of %d images", self.passes.part_size)

    def _changing_state(self) -> BufferCopies | None:
        """Copy the buffers, which a pass changes; None where parts cannot replace a batch."""
        if self.processes is not None or any(isinstance(module, _BatchNorm) for module in self.network.modules()):
            return None
        return BufferCopies(self.network, *([self.loss] if isinstance(self.loss, nn.Module) else []))

    def check_losses(self) -> None:
        """Raise NonFiniteLoss if the loss of a step of the current epoch is not finite."""
        losses = torch.stack(self.tally.losses).double().cpu()
        finite = losses.isfinite()
        if not finite.all():
            step = int((~finite).nonzero()[0])
            raise self._non_finite(float(losses[step]), f"step {step + 1} of {self.batches.steps}", "training")

    def _validation_metrics(self) -> tuple[Metrics, Metrics | None, Metrics]:
        """Return the metrics of the validation split, clean and under an adversary, and those that select."""
        clean = clean_metrics(self.network, self.loss, self.validation, has_kr=self.has_kr)
        trained = None if self.adversary is None else self._robust_metrics(self.adversary)
        robust = trained if self.validation_adversary is None else self._robust_metrics(self.validation_adversary)
        for metrics, kind in ((clean, "validation"), (trained, "robust validation"), (robust, "robust validation")):
            if metrics is not None and not math.isfinite(metrics.loss):
                raise self._non_finite(metrics.loss, "after its last step", kind)
        return clean, robust, trained or clean

    def _robust_metrics(self, adversary: Adversary) -> Metrics:
        """Compute the metrics of the validation split under an adversary with the same draws in every epoch."""
        keys = draw_keys(len(self.validation), "train", self.seed, "adversary", "validation", device=self.device)
        size = self.settings.batch_size
        return robust_metrics(self.network, self.loss, self.validation, adversary, keys=keys, batch_size=size)

    def _non_finite(self, loss: float, step: str, kind: str) -> NonFiniteLoss:
        problem = f"the {kind} loss became {loss} in epoch {self.epochs + 1}, {step}"
        remedy = f"lower the learning rate (`training.optimizer.lr`, now {self.base_lrs[0]:g}) or change the loss"
        return NonFiniteLoss(problem, remedy=remedy)

    def _build_recovery(self) -> CollapseRecovery | None:
        recovery = self.settings.recovery
        if recovery is None:
            return None
        order = torch.randperm(len(self.batches.labels), generator=generator("train", self.seed, "recovery"))
        rows = order[: recovery.samples].to(self.device)
        sample = Split(self.batches.images[rows].to(self.device), self.batches.labels[rows])
        start = self.objective.regularized_from
        return CollapseRecovery(recovery, self.network, self.optimizer, self.loss, sample, regularized_from=start)


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}
