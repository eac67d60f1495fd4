"""Ids of the cells whose files are aggregated, as far as aggregation reads them."""

from __future__ import annotations

from typing import Protocol, TypeVar


class StageIds(Protocol):
    """The stage of a cell; `key` is the column that holds the cell's name: attack, certificate, or empty."""

    @property
    def key(self) -> str: ...  # noqa: D102


class CellIds(Protocol):
    """A cell: its stage, and the values that its rows have in the columns of ids."""

    @property
    def stage(self) -> StageIds: ...  # noqa: D102
    @property
    def experiment(self) -> str: ...  # noqa: D102
    @property
    def variant(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102


C = TypeVar("C", bound=CellIds)
