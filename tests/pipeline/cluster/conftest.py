"""A real SLURM for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.slurm.cluster import Cluster, missing_requirements


@pytest.fixture(scope="package")
def slurm():
    """A cluster of one node with two GPUs, its commands and settings in the environment of this process."""
    missing = missing_requirements()
    if missing:
        reason = f"a real SLURM needs {', '.join(missing)}: tests/support/install/slurm.sh, as root"
        # Set by .ci/run: there, a test that is not run has failed.
        if os.environ.get("GAUNTLET_TEST_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    # Short, since the name of a socket has few characters; open, since munge's users reach it there.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(folder)
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PATH", "SLURM_CONF"):
            environment.setenv(name, cluster.environment[name])
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder)
