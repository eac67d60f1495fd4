"""Distribution of tests over the processes of pytest-xdist."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

CLUSTER = "tests/pipeline/cluster/"


class ModuleScheduling(LoadScopeScheduling):
    """Scheduler that gives each process one module at a time, and one process all modules on SLURM.

    So the fixtures of a module are made once, and there is one cluster. (Groups by a mark, `--dist loadgroup`, have no
    effect with pytest 9.2 and pytest-xdist 3.8.)
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return CLUSTER if module.startswith(CLUSTER) else module
