"""The real data sets, for tests that use them where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("GAUNTLET_TEST_DATA") or "absent").resolve()
"""Folder with MNIST, Fashion-MNIST and CIFAR-10 (JPEG)."""

needs_data = pytest.mark.skipif(
    not os.environ.get("GAUNTLET_TEST_DATA"), reason="GAUNTLET_TEST_DATA does not name a folder with the data sets"
)
