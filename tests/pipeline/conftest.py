"""A finished run for tests of status and aggregation."""

from __future__ import annotations

from contextlib import chdir

import pytest

from tests.support.stub_outputs import write_config
from tests.support.synthetic_outputs import SMALL, finish_cells


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run with synthetic results, made once."""
    folder = tmp_path_factory.mktemp("finished")
    with chdir(folder):
        write_config(folder, SMALL)
        finish_cells(folder)
    return folder
