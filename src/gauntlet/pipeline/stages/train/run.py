"""From a stored data set to the weights, manifest and history of one variant with one seed."""

from __future__ import annotations

import importlib
import logging
from contextlib import nullcontext

import torch

from gauntlet.config.checkpoint_files import CheckpointFile
from gauntlet.core.errors import InputError, located
from gauntlet.core.parquet import write_table
from gauntlet.core.progress import NullProgress, progress
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.signals import StopRequest
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.residence import resident
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.stored_images import open_split
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import save_model
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.history import VOLATILE, EpochRecord
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.memory_record import MemoryRecord
from gauntlet.learning.training.state import TrainingState
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.device import device_metadata
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.pipeline.stages.train.chosen import KEPT_EPOCH
from gauntlet.pipeline.stages.train.declaration import CHECKPOINTS
from gauntlet.pipeline.stages.train.network import build_network, fewest_draws, is_certified
from gauntlet.pipeline.stages.train.process_group import describe_processes, open_processes
from gauntlet.robustness.preflight import PREFLIGHT_IMAGES, check_stored, check_trainable

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Train one model and publish it, from its last checkpoint where there is one.

    Of several processes that share the training only the first writes. Raises GauntletError when training fails,
    Interrupted at a request to stop.
    """
    training = job.experiment.training_of(job.cell.variant)
    with open_processes(job.execution, training.gpus) as (device, processes):
        _train(job, device, processes)


def _train(job: CellJob, device: torch.device, processes: DataParallelGroup | None) -> None:
    watch = Stopwatch()
    cell, settings, recipe = job.cell, job.experiment, job.recipe
    variant, training = settings.networks[cell.variant], settings.training_of(cell.variant)
    writes = processes is None or processes.rank == 0
    folder = paths.data_folder(paths.dataset_id(settings.dataset))
    data = load_data_manifest(folder)
    if not data.sizes["train"]:
        remedy = "add training images, or adopt a model with `weights:`"
        raise InputError(f"the data set {folder} has no training images", where=str(cell), remedy=remedy)
    network = build_network(job, data)
    partial = paths.partial(cell, recipe.digest)
    checkpoints = Checkpoints(partial / "training.checkpoint", recipe=recipe.digest)
    resume = _resume(checkpoints, processes)
    if resume is None:
        with located(str(cell)):
            check_trainable(network, seed=cell.seed, draws=fewest_draws(job), certified=is_certified(job))
    if training.initial_weights is not None:
        # Also before a state is restored, since one that does not fit the network is ignored.
        with located(str(cell)):
            _load_initial(network, training.initial_weights, recipe)
    with StopRequest(str(cell)) as stop:
        file = paths.progress_file(cell)
        reported = progress(str(cell), training.epochs, "epochs", file=file) if writes else nullcontext(NullProgress())
        with reported as report:

            def on_epoch(epoch: EpochRecord) -> None:
                report.advance(1, _describe(epoch))

            def on_resume(state: TrainingState) -> None:
                log.info("%s: resuming from epoch %d, step %d", cell, state.epochs + 1, state.step)
                report.resume(state.epochs)
                watch.add(state.seconds)

            train, validation = resident([open_split(folder, name) for name in ("train", "validation")], device)
            fitted = fit(
                network,
                variant.loss,
                train,
                validation,
                settings=training,
                seed=cell.seed,
                device=device,
                on_epoch=on_epoch,
                resume=resume,
                on_resume=on_resume,
                checkpoints=checkpoints if writes else None,
                stop=stop,
                processes=processes,
                memory=MemoryRecord(partial / "memory.json"),
            )
        if not writes:
            return
        if fitted.network.ramps_rising:
            message = "%s: in the kept epoch, %d, ramps are below full strength: add epochs, or raise `increment`"
            log.warning(message, cell, fitted.kept_epoch)
        check_stored(fitted.network, to_unit(validation.images[:PREFLIGHT_IMAGES].cpu()))
        devices = describe_processes(device, processes)
        parts = {} if fitted.part_size is None else {"part_size": str(fitted.part_size)}
        made = {
            **recipe.metadata(),
            **watch.run_metadata(**device_metadata(job.execution, devices, precision=training.precision), **parts),
            f"gauntlet.{KEPT_EPOCH}": str(fitted.kept_epoch),
        }
        withdraw(cell)
        write_table(paths.history(cell), fitted.history, made, volatile=VOLATILE)
        save_model(fitted.network, paths.model_folder(cell), made)
        sweep(cell)
    log.info("%s: kept epoch %d of %d", cell, fitted.kept_epoch, len(fitted.history))


def _load_initial(network: Network, file: CheckpointFile, recipe: Recipe) -> None:
    """Load the weights that a training starts from."""
    # By name: the recipes of other trainings do not contain this code.
    checkpoints = importlib.import_module(CHECKPOINTS)
    digest = recipe.slice["training"]["initial_weights"]["digest"]
    checkpoints.load_weights(network, file.path, entry=file.entry, digest=digest)


def _describe(epoch: EpochRecord) -> str:
    if epoch.validation_loss is None:
        return "collapsed"
    text = f"validation loss {epoch.validation_loss:.4f}, accuracy {epoch.validation_accuracy:.4f}"
    robust = epoch.robust_validation_accuracy
    under_attack = "" if robust is None else f", {robust:.4f} under attack"
    return f"{text}{under_attack}{', collapsed' if epoch.collapsed else ''}"


def _resume(checkpoints: Checkpoints, processes: DataParallelGroup | None) -> TrainingState | None:
    """Return the state of the last checkpoint, the same in all processes; None where there is none."""
    state = checkpoints.load() if processes is None or processes.rank == 0 else None
    return state if processes is None else processes.broadcast(state)
