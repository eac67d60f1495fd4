"""The environment that code runs in: Python, the versions of packages that decide results, and the lock."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gauntlet.core.provenance.digests import digest_json

RECORDED = ("gauntlet", "torch", "torchvision", "numpy", "foolbox", "deel-torchlip", "pyarrow", "scikit-learn")

LOCK = Path("envs") / "requirements.lock"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def versions() -> dict[str, str]:
    """Map each recorded package that is installed to its version."""
    return {name: installed for name in RECORDED if (installed := _version(name))}


@cache
def environment() -> Mapping[str, str]:
    """Return the versions of Python and of the recorded packages, and a hash of the lock's pins if there is a lock.

    Our own version is left out, since fingerprints identify our code. Comments and hashes in the lock do not matter.
    """
    packages = {name: installed for name, installed in versions().items() if name != "gauntlet"}
    lock = lock_file()
    pins = dict(_PIN.findall(lock.read_text(encoding="utf-8"))) if lock else None
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **packages, **({"lock": digest_json(pins)[:16]} if pins is not None else {})}


def environment_digest() -> str:
    """Hash the environment."""
    return f"sha256:{digest_json(dict(environment()))}"


def lock_file() -> Path | None:
    """Return the lock of the checkout that the code runs from, else that below the working folder; None without one."""
    candidates = (Path(__file__).resolve().parents[4] / LOCK, LOCK)
    return next((path for path in candidates if path.is_file()), None)


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
