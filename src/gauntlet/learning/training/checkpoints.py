"""A training run's state on disk: one file, replaced whole, that runs no code when it is read."""

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

from gauntlet.core.errors import InputError
from gauntlet.core.files import atomic_path
from gauntlet.learning.training.history import EpochRecord
from gauntlet.learning.training.state import BestEpoch, RecoveryState, Tally, TrainingState

log = logging.getLogger("gauntlet")

_MAGIC = b"gauntlet-checkpoint 2"
# Writing takes at most this share of the time.
_WRITING_SHARE = 0.05


class Checkpoints:
    """Keeps the last state of one training in the file `path`.

    `recipe` is what decides the training: a file of another recipe is not read. A state is due `interval_s` seconds
    after the last one, later where writing is slow.
    """

    def __init__(self, path: Path, *, recipe: str, interval_s: float = 30.0) -> None:
        self.path, self.recipe, self.interval_s = path, recipe, interval_s
        self._next_s = time.monotonic() + interval_s

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next_s

    def save(self, state: TrainingState) -> None:
        """Write a state; the one before stays until this one is whole. Raises GauntletError when the disk is full."""
        start_s = time.monotonic()
        payload = io.BytesIO()
        torch.save(_plain(state), payload)
        content = payload.getbuffer()
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(b"\n".join([_MAGIC, self.recipe.encode(), _digest(content).encode(), b""]))
            stream.write(content)
        end_s = time.monotonic()
        self._next_s = end_s + max(self.interval_s, (end_s - start_s) / _WRITING_SHARE)

    def load(self) -> TrainingState | None:
        """Read the last state, on the CPU; None where there is none. One that cannot be used is told and passed by."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except Exception as error:  # a stranger's file may be anything, and none of it is worth a failed cell
            reason = str(error).partition("\n")[0]
            log.warning("%s: the checkpoint is not used, training starts anew: %s", self.path, reason)
            return None

    def _read(self) -> TrainingState:
        magic, recipe, digest, payload = [*self.path.read_bytes().split(b"\n", 3), b"", b"", b""][:4]
        if magic != _MAGIC or digest.decode() != _digest(payload):
            raise InputError("it is damaged or no checkpoint")
        if recipe.decode() != self.recipe:
            raise InputError("it belongs to another training")
        return _state(torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True))


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(state: TrainingState) -> dict[str, Any]:
    """Spell a state in mappings, lists, numbers and tensors; the many small tensors of a tally become few."""
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
        "recovery": None if state.recovery is None else dict(vars(state.recovery)),
    }


def _state(plain: dict[str, Any]) -> TrainingState:
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
            losses=_unbound(tally["losses"]),
            penalties=_unbound(tally["penalties"]),
            sizes=sizes,
            correct=tally["correct"],
            outputs=_split(tally["outputs"], sizes),
            labels=_split(tally["labels"], sizes),
            seconds=tally["seconds"],
        ),
        None if plain["recovery"] is None else RecoveryState(**plain["recovery"]),
    )


def _unbound(joined: Tensor | None) -> list[Tensor]:
    return [] if joined is None else list(joined.unbind())


def _split(joined: Tensor | None, sizes: list[int]) -> list[Tensor]:
    return [] if joined is None else list(joined.split(sizes))
