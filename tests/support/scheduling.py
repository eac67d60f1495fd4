"""Distribution of tests over the processes of pytest-xdist."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.support.slurm import CLUSTER, LONGEST


class ModuleScheduling(LoadScopeScheduling):
    """Scheduler that gives each process one module at a time, and the modules on SLURM to two processes.

    So the fixtures of a module are made once, and there are two clusters. (Groups by a mark, `--dist loadgroup`, have
    no effect with pytest 9.2 and pytest-xdist 3.8.)
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return CLUSTER if module.startswith(CLUSTER) and module != LONGEST else module
