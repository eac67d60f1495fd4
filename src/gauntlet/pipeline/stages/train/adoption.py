"""From a checkpoint to the weights and manifest of one variant with one seed, as training writes them."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from gauntlet.core.errors import InputError, located
from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.stored_images import StoredSplit, open_split
from gauntlet.learning.models.checkpoint.loading import load_checkpoint
from gauntlet.learning.models.checkpoint.reading import Checkpoint, read_checkpoint
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import save_model
from gauntlet.learning.training.history import VOLATILE, history_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.device import describe_device, device_metadata, open_device
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.pipeline.stages.train.network import build_network, fewest_draws, is_certified
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.preflight import PREFLIGHT_IMAGES, check_model, check_stored, normalization_warning

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Adopt one model: build the network, load its checkpoint, check it, and publish it with an empty history.

    Raises InputError when the checkpoint cannot be read or does not fit, or the network cannot be evaluated soundly.
    """
    watch = Stopwatch()
    cell, settings, variant = job.cell, job.experiment, job.experiment.networks[job.cell.variant]
    file = (variant.weights or ())[cell.seed]
    device = open_device(job.execution)
    folder = paths.data_folder(paths.dataset_id(settings.dataset))
    data = load_data_manifest(folder)
    with located(str(cell)):
        checkpoint = read_checkpoint(file.path, digest=job.recipe.slice["weights"]["digest"])
        network = build_network(job, data)
        network, entry = load_network(network, checkpoint, entry=file.entry)
        network.training_loss = variant.known_loss
        # A set of test images only has no others to check the model on; nothing is chosen by them.
        name = "validation" if data.sizes["validation"] else "test"
        split = open_split(folder, name)
        check_stored(network, to_unit(split.images[:PREFLIGHT_IMAGES]))
        certified = is_certified(job)
        draws = 1 if certified else fewest_draws(job)
        judge = Judge(network, device=device, draws=draws)
        check_model(judge, to_unit(split.images[:PREFLIGHT_IMAGES]), split.labels, certified=certified)
    accuracy = _accuracy(judge, split)
    warning = normalization_warning(network, split, (data.mean, data.std), device=device, draws=draws, name=name)
    made = {
        **job.recipe.metadata(),
        **watch.run_metadata(
            **device_metadata(job.execution, describe_device(device), precision="float32"),
            checkpoint=file.file,
            checkpoint_digest=f"sha256:{checkpoint.digest}",
            checkpoint_entry=entry,
            **{f"{name}_accuracy": repr(accuracy)},
        ),
    }
    withdraw(cell)
    write_table(paths.history(cell), history_table([]), made, volatile=VOLATILE)
    save_model(network, paths.model_folder(cell), made, warnings=[warning] if warning else [])
    sweep(cell)
    place = f", '{entry}'" if entry else ""
    log.info("%s: adopted %s%s, accuracy %.4f on %d %s images", cell, file.file, place, accuracy, len(split), name)
    _warn_of_chance(cell, accuracy, split.labels)
    if warning:
        log.warning("%s: %s", cell, warning)


def load_network(network: Network, checkpoint: Checkpoint, *, entry: str | None) -> tuple[Network, str]:
    """Load a checkpoint into a network or, if it does not fit, into the plain layers that the network is stored as.

    Return the one that was loaded, in evaluation mode, and the entry of the file. Raises InputError.
    """
    try:
        return network.eval(), load_checkpoint(network, checkpoint, entry=entry)
    except InputError:
        plain = network.export().eval()
        if plain is network:
            raise
        try:
            return plain, load_checkpoint(plain, checkpoint, entry=entry)
        except InputError:
            # The names that do not fit the network as it is written are those that a user knows.
            pass
        raise


def _accuracy(judge: Judge, split: StoredSplit) -> float:
    """Return the accuracy of a network on a split, converted to floats in parts, so that memory is bounded."""
    correct = 0
    for rows in torch.arange(len(split)).split(judge.memory.size):
        predictions = judge.logits(to_unit(split.images[rows])).argmax(1).cpu()
        correct += int((predictions == split.labels[rows]).sum())
    return correct / len(split)


def _warn_of_chance(cell: object, accuracy: float, labels: Tensor) -> None:
    """Warn of an accuracy that a classifier which always predicts the most frequent class has too."""
    most_frequent = float(labels.bincount().max() / len(labels))
    if accuracy <= most_frequent:
        log.warning(
            "%s: the accuracy is not above that of the most frequent class, %.4f; check the weights, the order of the "
            "classes, and `normalize:`, which must be that of the model's training",
            cell,
            most_frequent,
        )
