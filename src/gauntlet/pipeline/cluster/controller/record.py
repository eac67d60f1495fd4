"""Records of the controller's job: its submission, written on the login node, and its starts, written by the job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from gauntlet.core.errors import GauntletError
from gauntlet.core.files import write_json
from gauntlet.pipeline import paths


class _Record(BaseModel):
    """A small JSON file."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a record; None if there is none. Raises GauntletError when the file is damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise GauntletError("the file is damaged", where=str(path), remedy="delete it") from error


class Submission(_Record):
    """A submitted controller: its SLURM job, the arguments of Snakemake, the time, and its copy of the code, if any."""

    job: str
    arguments: tuple[str, ...]
    at: str
    code: str = ""

    @property
    def log(self) -> Path:
        """The job's log, of all its starts."""
        return paths.CONTROLLER / f"{self.job}_0_log.out"

    def write(self) -> None:
        """Write the record; it replaces that of an earlier controller."""
        write_json(_submission_file(), self.model_dump())


class ControllerRecord(_Record):
    """The starts of a controller's job, each with time and host, and how the last one ended."""

    starts: tuple[str, ...] = ()
    end: str = ""

    def write(self, job: str) -> None:
        """Write the record of a job, next to its log."""
        write_json(_record_file(job), self.model_dump())

    def started(self, host: str) -> ControllerRecord:
        """Return the record with another start."""
        return ControllerRecord(starts=(*self.starts, f"{utc_now()} on {host}"))

    def ended(self, how: str) -> ControllerRecord:
        """Return the record with an end."""
        return ControllerRecord(starts=self.starts, end=f"{utc_now()}: {how}")


def last_submission() -> Submission | None:
    """Return the last submission from this folder; None if there was none."""
    return Submission.read(_submission_file())


def read_record(job: str) -> ControllerRecord:
    """Return the record of a controller's job; an empty one before its first start."""
    return ControllerRecord.read(_record_file(job)) or ControllerRecord()


def utc_now() -> str:
    """Return the current time as ISO 8601, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _submission_file() -> Path:
    return paths.CONTROLLER / "submitted.json"


def _record_file(job: str) -> Path:
    return paths.CONTROLLER / f"{job}.json"
