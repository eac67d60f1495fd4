"""What is known of the controller's job: who sent it off with what, and what it says of itself as it goes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gauntlet.core.files import write_json
from gauntlet.pipeline import paths


@dataclass(frozen=True)
class Submitted:
    """A controller that was sent off: its job, and what Snakemake is given. Written where it was sent off."""

    job: str
    arguments: tuple[str, ...]
    at: str

    @property
    def log(self) -> Path:
        """Where the job writes, at every start."""
        return paths.CONTROLLER / f"{self.job}_0_log.out"

    def write(self) -> None:
        """Keep it; the newest is the one that is spoken of."""
        write_json(paths.CONTROLLER / "submitted.json", asdict(self))


@dataclass(frozen=True)
class Progress:
    """How far a controller has come: each start with its time and host, and how it ended. Written by its job."""

    starts: tuple[str, ...] = ()
    end: str = ""

    def write(self, job: str) -> None:
        """Keep it beside the job's log."""
        write_json(_progress_file(job), asdict(self))

    def started(self, host: str) -> Progress:
        """Note another start."""
        return replace(self, starts=(*self.starts, f"{now()} on {host}"), end="")

    def ended(self, how: str) -> Progress:
        """Note the end."""
        return replace(self, end=f"{now()}: {how}")


def last_submitted() -> Submitted | None:
    """Give the controller that was last sent off from this folder; None if there was none."""
    found = _read(paths.CONTROLLER / "submitted.json")
    return Submitted(found["job"], tuple(found["arguments"]), found["at"]) if found else None


def progress_of(job: str) -> Progress:
    """Give what a controller says of itself; nothing before its first start."""
    found = _read(_progress_file(job))
    return Progress(tuple(found["starts"]), found["end"]) if found else Progress()


def now() -> str:
    """Spell the time as records do."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _progress_file(job: str) -> Path:
    return paths.CONTROLLER / f"{job}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
