"""Training checkpoints: the state of a run in one file, replaced atomically and loaded without executing code."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gauntlet.core.errors import InputError, first_line
from gauntlet.core.files import atomic_path
from gauntlet.learning.training.history import EpochRecord
from gauntlet.learning.training.state import AverageState, BestEpoch, RecoveryState, TrainingState
from gauntlet.learning.training.tally import Tally

log = logging.getLogger("gauntlet")

_MAGIC = b"gauntlet-checkpoint 3"

_MAX_TIME_SHARE = 0.05
"""Maximum share of the run's time that is spent on writing checkpoints."""


class Checkpoints:
    """Checkpoint file of one training run.

    `recipe` identifies everything that decides the result; a checkpoint with another recipe is not loaded. A
    checkpoint is due `interval_s` seconds after the last one, later if writing is slow.
    """

    def __init__(self, path: Path, *, recipe: str, interval_s: float = 30.0) -> None:
        self.path, self.recipe, self.interval_s = path, recipe, interval_s
        self._next_s = time.monotonic() + interval_s

    def due(self) -> bool:
        """Return whether it is time to save."""
        return time.monotonic() >= self._next_s

    def save(self, state: TrainingState) -> None:
        """Write a state, replacing the last one atomically. Raises GauntletError if the disk is full."""
        start_s = time.monotonic()
        payload = io.BytesIO()
        torch.save(_to_plain(state), payload)
        content = payload.getbuffer()
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(b"\n".join([_MAGIC, self.recipe.encode(), _digest(content).encode(), b""]))
            stream.write(content)
        end_s = time.monotonic()
        self._next_s = end_s + max(self.interval_s, (end_s - start_s) / _MAX_TIME_SHARE)

    def load(self) -> TrainingState | None:
        """Load the last state onto the CPU, or return None. An unusable file is logged and ignored."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except Exception as error:  # an arbitrary file can raise anything, and a checkpoint can be done without
            reason = first_line(error)
            log.warning("%s: the checkpoint is ignored, training starts from the beginning: %s", self.path, reason)
            return None

    def _read(self) -> TrainingState:
        magic, recipe, digest, payload = [*self.path.read_bytes().split(b"\n", 3), b"", b"", b""][:4]
        if magic != _MAGIC or digest.decode() != _digest(payload):
            raise InputError("it is damaged or not a checkpoint")
        if recipe.decode() != self.recipe:
            raise InputError("it belongs to another training")
        return _from_plain(torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True))


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _to_plain(state: TrainingState) -> dict[str, Any]:
    """Convert a state to dictionaries, lists, numbers and tensors; lists of small tensors become one tensor each."""
    tally = state.tally
    return {
        "epochs": state.epochs,
        "step": state.step,
        "weights": state.weights,
        "optimizer": state.optimizer,
        "best": None if state.best is None else dict(vars(state.best)),
        "history": [asdict(epoch) for epoch in state.history],
        "tally": {
            "losses": torch.stack(tally.losses) if tally.losses else None,
            "penalties": torch.stack(tally.penalties) if tally.penalties else None,
            "sizes": tally.sizes,
            "correct": tally.correct,
            "outputs": torch.cat(tally.outputs) if tally.outputs else None,
            "labels": torch.cat(tally.labels) if tally.labels else None,
            "seconds": tally.seconds,
        },
        "loss": state.loss,
        "recovery": None if state.recovery is None else dict(vars(state.recovery)),
        "average": None if state.average is None else dict(vars(state.average)),
    }


def _from_plain(plain: dict[str, Any]) -> TrainingState:
    tally = plain["tally"]
    sizes = tally["sizes"]
    return TrainingState(
        plain["epochs"],
        plain["step"],
        plain["weights"],
        plain["optimizer"],
        None if plain["best"] is None else BestEpoch(**plain["best"]),
        [EpochRecord(**epoch) for epoch in plain["history"]],
        Tally(
            losses=_unbind(tally["losses"]),
            penalties=_unbind(tally["penalties"]),
            sizes=sizes,
            correct=tally["correct"],
            outputs=_split(tally["outputs"], sizes),
            labels=_split(tally["labels"], sizes),
            seconds=tally["seconds"],
        ),
        None if plain["recovery"] is None else RecoveryState(**plain["recovery"]),
        plain["loss"],
        None if plain["average"] is None else AverageState(**plain["average"]),
    )


def _unbind(joined: Tensor | None) -> list[Tensor]:
    return [] if joined is None else list(joined.unbind())


def _split(joined: Tensor | None, sizes: list[int]) -> list[Tensor]:
    return [] if joined is None else list(joined.split(sizes))
