"""Jobs of Snakemake under the names of the cells that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from gauntlet.pipeline.stage import Cell, Stage
from gauntlet.pipeline.stages.catalog import stages


class JobKind(NamedTuple):
    """Group of jobs that take about equally long: of one rule, one experiment, and one attack (or its like)."""

    rule: str
    experiment: str
    name: str


@dataclass(frozen=True)
class CellsJob:
    """A job: the cell that it makes, its rule, and the shard (as I/N) where it makes a share of the cell."""

    cell: Cell
    rule: str
    shard: str = ""

    @classmethod
    def of(cls, rule: str, wildcards: Mapping[str, Any]) -> CellsJob | None:
        """Return the job of a rule; None for a rule that only collects files, such as `all`."""
        declared = _stages_by_rule().get(rule)
        if declared is None:
            return None
        shard = f"{wildcards['shard']}/{wildcards['shards']}" if "shard" in wildcards else ""
        return cls(declared.cell(wildcards), rule, shard)

    def __str__(self) -> str:
        return f"{self.cell} shard={self.shard}" if self.shard else str(self.cell)

    @property
    def kind(self) -> JobKind:
        """The jobs that take about as long."""
        return JobKind(self.rule, self.cell.experiment, self.cell.name)

    @property
    def stage(self) -> Stage:
        """The stage of the cell."""
        return self.cell.stage

    @property
    def result(self) -> Path | None:
        """The file or folder where a user looks at the result; None for a stage whose files others read."""
        if not self.stage.shows_results:
            return None
        outputs = self.cell.outputs
        return outputs[0] if len(outputs) == 1 else outputs[0].parent


@cache
def _stages_by_rule() -> dict[str, Stage]:
    return {rule: declared for declared in stages() for rule in declared.rules}
