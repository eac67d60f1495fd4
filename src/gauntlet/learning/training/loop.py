"""The training loop: epochs over a split on the device, the checkpoint with the lowest validation loss kept.

With an adversary that loss is the one under attack: clean validation would keep an epoch of robust overfitting, or one
from before robustness (Rice, Wong, Kolter 2020, arXiv:2002.11569).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from gauntlet.core.batch_size import is_out_of_memory
from gauntlet.core.errors import GauntletError
from gauntlet.core.randomness import derive_seed, generator
from gauntlet.core.signals import StopRequest
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.splits import Split
from gauntlet.learning.losses import build_loss
from gauntlet.learning.losses.kantorovich import kantorovich_rubinstein
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary, build_adversary, draw_keys
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.collapse_recovery import CollapseRecovery, NonFiniteLoss
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.history import EpochRecord, history_table
from gauntlet.learning.training.objective import TrainingObjective
from gauntlet.learning.training.optimizers import build_optimizer
from gauntlet.learning.training.schedules import build_schedule
from gauntlet.learning.training.settings import TrainingSettings
from gauntlet.learning.training.state import BestEpoch, Tally, TrainingState, Weights, snapshot
from gauntlet.learning.training.validation import Metrics, clean_metrics, robust_metrics
from gauntlet.registry import LOSSES, Spec

log = logging.getLogger("gauntlet")


@dataclass(frozen=True)
class TrainingResult:
    """A trained network in evaluation mode with the weights of its best epoch (from 1), and the history of the run."""

    network: Network
    best_epoch: int
    history: pa.Table


def fit(
    network: Network,
    loss: Spec,
    train: Split,
    validation: Split,
    *,
    settings: TrainingSettings,
    seed: int,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[EpochRecord], None] | None = None,
    resume: TrainingState | None = None,
    checkpoints: Checkpoints | None = None,
    stop: StopRequest | None = None,
    processes: DataParallelGroup | None = None,
) -> TrainingResult:
    """Train `network` and give it back with its best weights.

    The same arguments on the same machine and number of threads give the same bytes. `on_epoch` is called after each
    epoch, and first for each that `resume`, a state that `TrainingRun.state` gave, has behind it. A state that does not
    fit the network is told and passed by. `checkpoints` keeps the state whenever it is due, and when `stop` is
    requested. With `processes` all its processes call this with the same arguments, but one of them alone has
    `checkpoints`; they share every batch, and give the same network. Raises GauntletError when the loss is not finite,
    when a collapse is not recovered from, or when memory runs out; Interrupted at a request to stop.
    """
    try:
        run = TrainingRun(
            network, loss, train, validation, settings=settings, seed=seed, device=device, processes=processes
        )
        if resume is not None and run.fits(resume):
            run.restore(resume)
            for epoch in run.history:
                _tell(on_epoch, epoch)
        _finish(run, on_epoch=on_epoch, checkpoints=checkpoints, stop=stop)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        problem = f"memory ran out with a batch_size of {settings.batch_size}"
        remedy = "lower `training.batch_size`, or use a device with more memory"
        raise GauntletError(problem, remedy=remedy) from error
    finally:
        if processes is not None:
            processes.detach(network)
    return run.result()


def _finish(
    run: TrainingRun,
    *,
    on_epoch: Callable[[EpochRecord], None] | None,
    checkpoints: Checkpoints | None,
    stop: StopRequest | None,
) -> None:
    def agreed(wanted: bool) -> bool:
        return wanted if run.processes is None else run.processes.any(wanted)

    def pause() -> bool:
        return agreed((stop is not None and stop.requested) or (checkpoints is not None and checkpoints.due()))

    while not run.finished:
        run.run_steps(pause=pause)
        if pause():
            if run.recovery is None:
                run.check_losses()
            if checkpoints is not None:
                checkpoints.save(run.live_state())
            if stop is not None and agreed(stop.requested):
                step = f"epoch {run.epochs + 1}, step {run.step} of {run.batches.steps}"
                raise stop.interruption(f"{step} is {'not ' if checkpoints is None else ''}kept")
        if run.step == run.batches.steps:
            _tell(on_epoch, run.run_epoch())


def _tell(on_epoch: Callable[[EpochRecord], None] | None, epoch: EpochRecord) -> None:
    if on_epoch is not None:
        on_epoch(epoch)


class TrainingRun:
    """A training run that can be stopped between any two steps and taken up again."""

    def __init__(
        self,
        network: Network,
        loss: Spec,
        train: Split,
        validation: Split,
        *,
        settings: TrainingSettings,
        seed: int,
        device: str | torch.device = "cpu",
        processes: DataParallelGroup | None = None,
    ) -> None:
        # Channels last is the faster layout for convolutions; it changes no value that is stored.
        self.network = network.to(device).to(memory_format=torch.channels_last).train()
        self.processes = processes
        if processes is not None:
            processes.attach(self.network)
        self.loss, self.has_kr = build_loss(loss), bool(LOSSES.entry(loss.name).tags.get("kr"))
        self.adversary = None if settings.adversary is None else build_adversary(settings.adversary)
        measured = settings.validation_adversary
        self.validation_adversary = None if measured is None else build_adversary(measured)
        self.settings, self.seed, self.device = settings, seed, torch.device(device)
        augmentations = [build_augmentation(spec) for spec in settings.augmentation]
        self.batches = Batches(
            train, batch_size=settings.batch_size, seed=seed, device=device, augmentations=augmentations
        )
        self.validation = Split(validation.images.to(device), validation.labels.to(device))
        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(settings.optimizer, trainable)
        self.base_lr: float = self.optimizer.param_groups[0]["lr"]
        self.schedule = build_schedule(settings.schedule, warmup_epochs=settings.warmup_epochs)
        self.objective = TrainingObjective(
            self.network, self.loss, self.adversary, settings, seed=seed, steps=self.batches.steps
        )
        self.recovery = self._build_recovery()
        self.epochs, self.step = 0, 0
        self.best: BestEpoch | None = None
        self.history: list[EpochRecord] = []
        self.tally = Tally()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has not fallen for `patience` epochs."""
        patience = self.settings.patience
        waited = self.epochs - self.best.epoch if self.best else 0
        return self.epochs >= self.settings.epochs or (patience is not None and waited >= patience)

    def state(self) -> TrainingState:
        """Copy where the run stands, between any two steps."""
        return self.live_state().copy()

    def live_state(self) -> TrainingState:
        """Say where the run stands in its own tensors, which the next step changes."""
        weights = {name: tensor.detach() for name, tensor in self.network.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        recovery = None if self.recovery is None else self.recovery.state
        return TrainingState(self.epochs, self.step, weights, optimizer, self.best, self.history, self.tally, recovery)

    def fits(self, state: TrainingState) -> bool:
        """Tell whether a state can be one of this run's; log a warning where not."""
        own = _shapes(self.network.state_dict())
        kept = [part.weights for part in (state, state.best, state.recovery) if part is not None]
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        fits = (
            all(_shapes(weights) == own for weights in kept)
            and [len(group["params"]) for group in state.optimizer["param_groups"]] == sizes
            and len(state.history) == state.epochs
            and len(state.tally.losses) == state.step <= self.batches.steps
            and (state.recovery is None) == (self.recovery is None)
        )
        if not fits:
            log.warning("the checkpoint does not fit the network, training starts anew")
        return fits

    def restore(self, state: TrainingState) -> None:
        """Go back, or on, to a state that a run with the same arguments gave."""
        state = state.to(self.device)
        self.network.load_state_dict(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        self.epochs, self.step = state.epochs, state.step
        self.best, self.history, self.tally = state.best, state.history, state.tally
        if self.recovery is not None and state.recovery is not None:
            self.recovery.state = state.recovery

    def run_epoch(self) -> EpochRecord:
        """Make the remaining steps of the present epoch, then validate; where it collapsed, go back.

        Raises GauntletError for a non-finite loss without recovery, and for a collapse that is not recovered from.
        """
        self.run_steps()
        if self.processes is not None:
            self.processes.check_weights(self.network)
        start_s, number = time.perf_counter(), self.epochs + 1
        train_loss, train_accuracy, train_kr, penalty = self._training_figures()
        self.network.eval()
        clean, robust, decisive, trouble = None, None, None, None
        try:
            self.check_losses()
            clean, robust, decisive = self._validation_figures()
        except NonFiniteLoss as error:
            if self.recovery is None:
                raise
            trouble = error
        accuracy = None if self.recovery is None else self.recovery.accuracy()
        self.network.train()
        collapse = (
            None if self.recovery is None or accuracy is None else self.recovery.collapse_reason(accuracy, trouble)
        )
        if not collapse and decisive is not None and (self.best is None or decisive < self.best.validation_loss):
            self.best = BestEpoch(number, decisive, snapshot(self.network))
        training_s = self.tally.seconds
        epoch = EpochRecord(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=None if clean is None else clean.loss,
            validation_accuracy=None if clean is None else clean.accuracy,
            robust_validation_loss=None if robust is None else robust.loss,
            robust_validation_accuracy=None if robust is None else robust.accuracy,
            selection_loss=decisive,
            train_kr=train_kr,
            kr=None if clean is None else clean.kr,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            penalty=penalty,
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
                self.recovery.go_back(number, collapse)
        return epoch

    def run_steps(self, count: int | None = None, *, pause: Callable[[], bool] | None = None) -> None:
        """Make the remaining steps of the present epoch, at most `count`, or up to the first after which to `pause`."""
        start_s = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.base_lr * self.schedule(self.epochs, self.settings.epochs)
        self.network.ramps_frozen = self.recovery is not None and self.recovery.ramps_frozen(self.epochs + 1)
        end = self.batches.steps if count is None else min(self.batches.steps, self.step + count)
        cuda = [self.device] if self.device.type == "cuda" else []
        # Seeding every device's generator takes as long as a small layer.
        generators = torch if cuda else torch.default_generator
        with torch.random.fork_rng(devices=cuda):
            for images, labels in self.batches.epoch(self.epochs, start=self.step):
                if self.step >= end:
                    break
                # Dropout and other draws of the network's own come from the global generator: each step has its own.
                generators.manual_seed(derive_seed("train", self.seed, "network", self.epochs, self.step))
                self._step(images, labels)
                self.step += 1
                if pause is not None and pause():
                    break
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.tally.seconds += time.perf_counter() - start_s

    def result(self) -> TrainingResult:
        """Give the network with its best weights, in evaluation mode."""
        if self.best is None and self.history:
            raise GauntletError("training collapsed in every epoch", remedy="lower `training.optimizer.lr`")
        if self.best is None:
            raise ValueError("no epoch has been run")
        self.network.eval()
        self.network.load_state_dict(self.best.weights)
        return TrainingResult(self.network, self.best.epoch, history_table(self.history))

    def _step(self, images: Tensor, labels: Tensor) -> None:
        terms = self.objective.step_loss(images, labels, epoch=self.epochs, step=self.step)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        if self.processes is not None:
            self.processes.average_gradients(self.network.parameters())
        self.optimizer.step()
        self.network.after_step()
        # Nothing here waits for the device: figures are gathered as tensors and read once an epoch.
        outputs = terms.outputs.detach()
        with torch.no_grad():
            correct = (self.network.decode(outputs).argmax(dim=1) == labels).sum()
        self.tally.correct = correct if self.tally.correct is None else self.tally.correct + correct
        self.tally.losses.append(terms.loss.detach())
        if terms.penalty is not None:
            self.tally.penalties.append(terms.penalty.detach())
        self.tally.sizes.append(len(labels))
        if self.has_kr:
            self.tally.outputs.append(outputs)
            self.tally.labels.append(labels)

    def check_losses(self) -> None:
        """Raise GauntletError if a loss of the present epoch's steps is not finite."""
        losses = torch.stack(self.tally.losses).double().cpu()
        finite = losses.isfinite()
        if not finite.all():
            step = int((~finite).nonzero()[0])
            self._refuse(float(losses[step]), f"step {step + 1} of {self.batches.steps}", "training")

    def _training_figures(self) -> tuple[float | None, float, float | None, float | None]:
        """Give loss, accuracy, KR term and penalty of the present epoch's batches; None for what is not finite."""
        tally = self.tally
        sizes = torch.tensor(tally.sizes, dtype=torch.float64)
        loss = (torch.stack(tally.losses).double().cpu() * sizes).sum() / sizes.sum()
        correct = 0 if tally.correct is None else int(tally.correct)
        kr = kantorovich_rubinstein(torch.cat(tally.outputs), torch.cat(tally.labels)) if self.has_kr else None
        penalty = torch.stack(tally.penalties).double().mean() if tally.penalties else None
        return _finite(loss), correct / float(sizes.sum()), _finite(kr), _finite(penalty)

    def _validation_figures(self) -> tuple[Metrics, Metrics | None, float]:
        """Measure the validation split, clean and under attack, and give the loss that decides which epoch is kept."""
        clean = clean_metrics(self.network, self.loss, self.validation, has_kr=self.has_kr)
        opposed = None if self.adversary is None else self._robust_figures(self.adversary)
        robust = opposed if self.validation_adversary is None else self._robust_figures(self.validation_adversary)
        for figures, kind in ((clean, "validation"), (opposed, "robust validation"), (robust, "robust validation")):
            if figures is not None and not math.isfinite(figures.loss):
                self._refuse(figures.loss, "after its last step", kind)
        return clean, robust, (opposed or clean).loss

    def _robust_figures(self, adversary: Adversary) -> Metrics:
        """Measure the validation split under an adversary, which draws the same in every epoch."""
        keys = draw_keys(len(self.validation), "train", self.seed, "adversary", "validation", device=self.device)
        size = self.settings.batch_size
        return robust_metrics(self.network, self.loss, self.validation, adversary, keys=keys, batch_size=size)

    def _refuse(self, loss: float, step: str, kind: str) -> None:
        problem = f"the {kind} loss became {loss} in epoch {self.epochs + 1}, {step}"
        lr = self.optimizer.param_groups[0]["lr"]
        remedy = f"lower the learning rate (`training.optimizer.lr`, now {lr:g}) or change the loss"
        raise NonFiniteLoss(problem, remedy=remedy)

    def _build_recovery(self) -> CollapseRecovery | None:
        recovery = self.settings.recovery
        if recovery is None:
            return None
        order = torch.randperm(len(self.batches.labels), generator=generator("train", self.seed, "recovery"))
        rows = order[: recovery.samples].to(self.device)
        sample = Split(self.batches.images[rows], self.batches.labels[rows])
        since = self.objective.regularized_from
        return CollapseRecovery(recovery, self.network, self.optimizer, self.loss, sample, regularized_from=since)


def _finite(value: Tensor | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}
