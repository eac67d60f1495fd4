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

from gauntlet.data.augmentation import build_augmentation
from gauntlet.data.batches import Batches
from gauntlet.data.splits import Split
from gauntlet.errors import GauntletError
from gauntlet.losses import build_loss
from gauntlet.losses.kantorovich import kantorovich_rubinstein
from gauntlet.memory import is_out_of_memory
from gauntlet.models.network import Network
from gauntlet.randomness import derive_seed
from gauntlet.registry import LOSSES, Spec
from gauntlet.signals import StopRequest
from gauntlet.training.adversary import Adversary, build_adversary, draw_keys
from gauntlet.training.checkpoints import Checkpoints
from gauntlet.training.history import Epoch, history_table
from gauntlet.training.optimizers import build_optimizer, scheduled_lr
from gauntlet.training.parts import outputs_in_parts
from gauntlet.training.settings import TrainingSettings
from gauntlet.training.state import Best, Tally, TrainingState, Weights, snapshot
from gauntlet.training.validation import Figures, clean_figures, robust_figures

log = logging.getLogger("gauntlet")


@dataclass(frozen=True)
class Fitted:
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
    on_epoch: Callable[[Epoch], None] | None = None,
    resume: TrainingState | None = None,
    checkpoints: Checkpoints | None = None,
    stop: StopRequest | None = None,
) -> Fitted:
    """Train `network` and give it back with its best weights.

    The same arguments on the same machine and number of threads give the same bytes. `on_epoch` is called after each
    epoch, and first for each that `resume`, a state that `Training.state` gave, has behind it. A state that does not
    fit the network is told and passed by. `checkpoints` keeps the state whenever it is due, and when `stop` is
    requested. Raises GauntletError when the loss is not finite or memory runs out, Interrupted at a request to stop.
    """
    try:
        run = Training(network, loss, train, validation, settings=settings, seed=seed, device=device)
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
    return run.result()


def _finish(
    run: Training,
    *,
    on_epoch: Callable[[Epoch], None] | None,
    checkpoints: Checkpoints | None,
    stop: StopRequest | None,
) -> None:
    def pause() -> bool:
        return (stop is not None and stop.requested) or (checkpoints is not None and checkpoints.due())

    while not run.finished:
        run.run_steps(pause=pause)
        if pause():
            run.check_losses()
            if checkpoints is not None:
                checkpoints.save(run.live_state())
            if stop is not None and stop.requested:
                step = f"epoch {run.epochs + 1}, step {run.step} of {run.batches.steps}"
                raise stop.interruption(f"{step} is {'not ' if checkpoints is None else ''}kept")
        if run.step == run.batches.steps:
            _tell(on_epoch, run.run_epoch())


def _tell(on_epoch: Callable[[Epoch], None] | None, epoch: Epoch) -> None:
    if on_epoch is not None:
        on_epoch(epoch)


class Training:
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
    ) -> None:
        # Channels last is the faster layout for convolutions; it changes no value that is stored.
        self.network = network.to(device).to(memory_format=torch.channels_last).train()
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
        self.epochs, self.step = 0, 0
        self.best: Best | None = None
        self.history: list[Epoch] = []
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
        return TrainingState(self.epochs, self.step, weights, optimizer, self.best, self.history, self.tally)

    def fits(self, state: TrainingState) -> bool:
        """Tell whether a state can be one of this run's; log a warning where not."""
        own = _shapes(self.network.state_dict())
        kept = [state.weights] if state.best is None else [state.weights, state.best.weights]
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        fits = (
            all(_shapes(weights) == own for weights in kept)
            and [len(group["params"]) for group in state.optimizer["param_groups"]] == sizes
            and len(state.history) == state.epochs
            and len(state.tally.losses) == state.step <= self.batches.steps
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

    def run_epoch(self) -> Epoch:
        """Make the remaining steps of the present epoch, then validate. Raises GauntletError for a non-finite loss."""
        self.run_steps()
        start_s = time.perf_counter()
        train_loss, train_accuracy, train_kr = self._training_figures()
        self.network.eval()
        clean, robust, decisive = self._validation_figures()
        if self.best is None or decisive < self.best.validation_loss:
            self.best = Best(self.epochs + 1, decisive, snapshot(self.network))
        self.network.train()
        training_s = self.tally.seconds
        epoch = Epoch(
            self.epochs + 1,
            train_loss,
            train_accuracy,
            clean.loss,
            clean.accuracy,
            None if robust is None else robust.loss,
            None if robust is None else robust.accuracy,
            decisive,
            train_kr,
            clean.kr,
            self.optimizer.param_groups[0]["lr"],
            self.batches.steps / max(training_s, 1e-9),
            training_s + time.perf_counter() - start_s,
        )
        self.history.append(epoch)
        self.epochs, self.step, self.tally = self.epochs + 1, 0, Tally()
        return epoch

    def run_steps(self, count: int | None = None, *, pause: Callable[[], bool] | None = None) -> None:
        """Make the remaining steps of the present epoch, at most `count`, or up to the first after which to `pause`."""
        start_s = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = scheduled_lr(self.base_lr, self.settings.schedule, self.epochs, self.settings.epochs)
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

    def result(self) -> Fitted:
        """Give the network with its best weights, in evaluation mode."""
        if self.best is None:
            raise ValueError("no epoch has been run")
        self.network.eval()
        self.network.load_state_dict(self.best.weights)
        return Fitted(self.network, self.best.epoch, history_table(self.history))

    def _step(self, images: Tensor, labels: Tensor) -> None:
        loss, outputs = self._objective(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.network.after_step()
        # Nothing here waits for the device: figures are gathered as tensors and read once an epoch.
        outputs = outputs.detach()
        with torch.no_grad():
            correct = (self.network.decode(outputs).argmax(dim=1) == labels).sum()
        self.tally.correct = correct if self.tally.correct is None else self.tally.correct + correct
        self.tally.losses.append(loss.detach())
        self.tally.sizes.append(len(labels))
        if self.has_kr:
            self.tally.outputs.append(outputs)
            self.tally.labels.append(labels)

    def _objective(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Give a step's loss `()` and the raw outputs that its figures are of."""
        if self.adversary is None:
            outputs = outputs_in_parts(self.network, images)
            return self.loss(self.network, outputs, labels).mean(), outputs
        keys = draw_keys(len(labels), "train", self.seed, "adversary", self.epochs, self.step, device=self.device)
        strength = self.adversary.strength(self.epochs + (self.step + 1) / self.batches.steps)
        perturbed = self.adversary.perturb(self.network, self.loss, images, labels, keys=keys, strength=strength)
        return self.adversary.objective(self.network, self.loss, images, perturbed, labels)

    def check_losses(self) -> Tensor:
        """Give the losses of the present epoch's steps, float64 `(S,)`. Raises GauntletError if one is not finite."""
        losses = torch.stack(self.tally.losses).double().cpu()
        finite = losses.isfinite()
        if not finite.all():
            step = int((~finite).nonzero()[0])
            self._refuse(float(losses[step]), f"step {step + 1} of {self.batches.steps}", "training")
        return losses

    def _training_figures(self) -> tuple[float, float, float | None]:
        losses = self.check_losses()
        sizes = torch.tensor(self.tally.sizes, dtype=torch.float64)
        correct = 0 if self.tally.correct is None else int(self.tally.correct)
        kr = None
        if self.has_kr:
            kr = float(kantorovich_rubinstein(torch.cat(self.tally.outputs), torch.cat(self.tally.labels)))
        return float((losses * sizes).sum() / sizes.sum()), correct / float(sizes.sum()), kr

    def _validation_figures(self) -> tuple[Figures, Figures | None, float]:
        """Measure the validation split, clean and under attack, and give the loss that decides which epoch is kept."""
        clean = clean_figures(self.network, self.loss, self.validation, has_kr=self.has_kr)
        opposed = None if self.adversary is None else self._robust_figures(self.adversary)
        robust = opposed if self.validation_adversary is None else self._robust_figures(self.validation_adversary)
        for figures, kind in ((clean, "validation"), (opposed, "robust validation"), (robust, "robust validation")):
            if figures is not None and not math.isfinite(figures.loss):
                self._refuse(figures.loss, "after its last step", kind)
        return clean, robust, (opposed or clean).loss

    def _robust_figures(self, adversary: Adversary) -> Figures:
        """Measure the validation split under an adversary, which draws the same in every epoch."""
        keys = draw_keys(len(self.validation), "train", self.seed, "adversary", "validation", device=self.device)
        size = self.settings.batch_size
        return robust_figures(self.network, self.loss, self.validation, adversary, keys=keys, batch_size=size)

    def _refuse(self, loss: float, step: str, kind: str) -> None:
        problem = f"the {kind} loss became {loss} in epoch {self.epochs + 1}, {step}"
        lr = self.optimizer.param_groups[0]["lr"]
        remedy = f"lower the learning rate (`training.optimizer.lr`, now {lr:g}) or change the loss"
        raise GauntletError(problem, remedy=remedy)


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}
