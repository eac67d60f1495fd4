"""Norms that measure perturbations: their order, and their spelling in text and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

Norm = Literal["l0", "l1", "l2", "linf"]

NORMS: tuple[Norm, ...] = get_args(Norm)
"""All norms, in the order of columns and lists."""

NORM_TEXT: Mapping[str, str] = MappingProxyType({"l0": "L0", "l1": "L1", "l2": "L2", "linf": "L∞"})
"""Spelling in plain text: terminal, Markdown, page."""

NORM_LATEX: Mapping[str, str] = MappingProxyType(
    {"l0": r"$\ell_0$", "l1": r"$\ell_1$", "l2": r"$\ell_2$", "linf": r"$\ell_\infty$"}
)
"""Spelling in LaTeX tables and in Matplotlib's mathtext."""
