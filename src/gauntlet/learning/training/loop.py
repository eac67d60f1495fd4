"""Training loop: steps, checkpoints and stop requests until all epochs are done or patience runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.device_errors import is_out_of_memory
from gauntlet.core.errors import GauntletError, InputError, first_line
from gauntlet.core.randomness import derive_seed
from gauntlet.core.seeding import seeded
from gauntlet.core.signals import StopRequest
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.history import EpochRecord
from gauntlet.learning.training.memory_record import MemoryRecord, RestartWithLessMemory
from gauntlet.learning.training.pauses import Pauses
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.learning.training.settings import TrainingSettings
from gauntlet.learning.training.state import TrainingState
from gauntlet.registry import Spec

OnEpoch = Callable[[EpochRecord], None]
OnResume = Callable[[TrainingState], None]

_NO_STATISTICS = "Expected more than 1 value per channel when training"
"""Message of torch's batch normalization, of a batch with one value per channel."""


@float32_arithmetic()
def fit(
    network: Network,
    loss: Spec,
    train: Split | StoredSplit,
    validation: Split | StoredSplit,
    *,
    settings: TrainingSettings,
    seed: int,
    device: str | torch.device = "cpu",
    on_epoch: OnEpoch | None = None,
    resume: TrainingState | None = None,
    on_resume: OnResume | None = None,
    checkpoints: Checkpoints | None = None,
    stop: StopRequest | None = None,
    processes: DataParallelGroup | None = None,
    memory: MemoryRecord | None = None,
) -> TrainingResult:
    """Train `network`, in IEEE float32, and return it with the weights of the epoch to keep.

    Equal arguments on the same machine with the same number of threads give equal bytes. `resume` is a state from
    `TrainingRun.state`; one that does not fit the network is logged and ignored, of any other `on_resume` is called.
    `on_epoch` is called after each epoch. `checkpoints` stores the state whenever it is due, and when `stop` is
    requested. With `processes`, all of them call this function with equal arguments, except that only one has
    `checkpoints`; they share each batch and return equal networks. When memory runs out, batches are computed in
    smaller parts: at once in a single process; of several processes, the one without memory writes the size to `memory`
    and raises RestartWithLessMemory.

    Raises GauntletError if the loss is not finite, after a collapse without recovery, and if memory runs out with parts
    of one image or with a network that needs the whole batch; InputError for batch normalization of single images;
    Interrupted if a stop is requested.
    """
    run = None
    try:
        # A user's loss or adversary may draw when it is imported or constructed.
        with seeded(derive_seed("train", seed, "parts"), torch.device(device)):
            run = TrainingRun(
                network, loss, train, validation, settings=settings, seed=seed, device=device, processes=processes
            )
        if memory is not None and (record := memory.read()) is not None:
            size, in_training = record
            run.passes.shrink(size, required=in_training)
        if resume is not None and run.fits(resume):
            run.restore(resume)
            if on_resume is not None:
                on_resume(resume)
        _finish(run, on_epoch=on_epoch, checkpoints=checkpoints, stop=stop)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if processes is not None and memory is not None and run is not None and (size := run.passes.half_size) > 0:
            memory.write(size, in_training=network.training)
            raise RestartWithLessMemory.of(processes.rank, size) from None
        problem = f"memory ran out with a batch_size of {settings.batch_size}"
        remedy = "lower `training.batch_size`, or use a device with more memory"
        raise GauntletError(problem, remedy=remedy) from error
    except ValueError as error:
        if _NO_STATISTICS not in str(error):
            raise
        problem = f"a batch of one image has no batch statistics: {first_line(error)}"
        raise InputError(problem, where="training.batch_size", remedy="raise it to 2 or more") from error
    finally:
        if run is not None:
            run.passes.detach()
    return run.result()


def _finish(
    run: TrainingRun, *, on_epoch: OnEpoch | None, checkpoints: Checkpoints | None, stop: StopRequest | None
) -> None:
    """Run the remaining epochs, storing the state when a checkpoint is due or a stop is requested."""
    pauses = Pauses(checkpoints, stop, run.processes)
    while not run.finished:
        run.run_steps(pause=pauses.after_step)
        if pauses.requested:
            if run.recovery is None:
                run.check_losses()
            if checkpoints is not None:
                checkpoints.save(run.live_state())
            if pauses.stopped and stop is not None:
                step = f"epoch {run.epochs + 1}, step {run.step} of {run.batches.steps}"
                raise stop.interruption(f"{step} is {'not ' if checkpoints is None else ''}kept")
        if run.step == run.batches.steps:
            epoch = run.run_epoch()
            if on_epoch is not None:
                on_epoch(epoch)
