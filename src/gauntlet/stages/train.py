"""Stage `train`: one variant with one seed, from the stored split to weights, manifest and history."""

from __future__ import annotations

import logging

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.data.store import load_manifest, load_split
from gauntlet.models.build import build
from gauntlet.models.weights import save
from gauntlet.planning import Plan
from gauntlet.progress import progress
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import Recipe
from gauntlet.results import write_table
from gauntlet.signals import StopRequest
from gauntlet.stages.device import describe_device, open_device
from gauntlet.stages.publishing import sweep, withdraw
from gauntlet.training.checkpoints import Checkpoints
from gauntlet.training.history import VOLATILE, Epoch
from gauntlet.training.loop import fit
from gauntlet.training.settings import Recovery, TrainingSettings
from gauntlet.training.state import TrainingState

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Train one model and publish it, from its last checkpoint where there is one.

    Raises GauntletError when training fails, Interrupted at a request to stop.
    """
    watch = Stopwatch()
    settings = plan.experiment(cell.experiment)
    variant, training = settings.variants[cell.variant], settings.training_of(cell.variant)
    device = open_device(plan.config.execution)
    folder = paths.data_folder(paths.dataset_id(settings.dataset))
    data = load_manifest(folder)
    network = build(
        variant.model,
        image_shape=data.image_shape,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        seed=cell.seed,
    )
    checkpoints = Checkpoints(paths.partial(cell, recipe.string) / "training.checkpoint", recipe=recipe.string)
    with StopRequest(str(cell)) as stop:
        with progress(str(cell), training.epochs, "epochs") as report:

            def on_epoch(epoch: Epoch) -> None:
                report.advance(1, _told(epoch))

            fitted = fit(
                network,
                variant.loss,
                load_split(folder, "train"),
                load_split(folder, "validation"),
                settings=TrainingSettings(
                    epochs=training.epochs,
                    batch_size=training.batch_size,
                    optimizer=training.optimizer,
                    schedule=training.schedule,
                    warmup_epochs=training.warmup_epochs,
                    regularizers=tuple(training.regularizers),
                    patience=training.patience,
                    augmentation=tuple(training.augmentation),
                    negatives=training.negatives,
                    adversary=training.adversary,
                    validation_adversary=training.validation_adversary,
                    recovery=None if training.recovery is None else Recovery(**training.recovery.model_dump()),
                ),
                seed=cell.seed,
                device=device,
                on_epoch=on_epoch,
                resume=_resumed(cell, checkpoints),
                checkpoints=checkpoints,
                stop=stop,
            )
        made = {**recipe.metadata(), **watch.circumstances(device=describe_device(device), precision="float32")}
        withdraw(cell)
        write_table(paths.history(cell), fitted.history, made, volatile=VOLATILE)
        save(fitted.network, paths.model_folder(cell), made)
        sweep(cell)
    log.info("%s: best epoch %d of %d", cell, fitted.best_epoch, len(fitted.history))


def _told(epoch: Epoch) -> str:
    if epoch.validation_loss is None:
        return "collapsed"
    told = f"validation loss {epoch.validation_loss:.4f}, accuracy {epoch.validation_accuracy:.4f}"
    robust = epoch.robust_validation_accuracy
    under_attack = "" if robust is None else f", {robust:.4f} under attack"
    return f"{told}{under_attack}{', collapsed' if epoch.collapsed else ''}"


def _resumed(cell: Cell, checkpoints: Checkpoints) -> TrainingState | None:
    state = checkpoints.load()
    if state is not None:
        log.info("%s: goes on from epoch %d, step %d", cell, state.epochs + 1, state.step)
    return state
