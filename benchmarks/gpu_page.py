"""The page `docs/gpu.md`, from the results that `benchmarks/gpu.py` measured on a GPU, or from none.

    .venv/bin/python benchmarks/gpu_page.py

Its text is `gpu_page.md`; the results are in `gpu_results.json`, both in this folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "gpu.md", ROOT / "benchmarks" / "gpu_results.json"
TEMPLATE = ROOT / "benchmarks" / "gpu_page.md"

DESCRIPTIONS = {
    "pgd_most_fall": ("PGD-40 on a ResNet-18 (32x32), 1000 images of which a fifth survives", "plain loop", "≥ 2"),
    "pgd_most_survive": ("the same at a budget that four fifths survive", "plain loop", "≥ 2"),
    "judge": ("forward passes of the judge in IEEE float32, and their errors", "torch's default (TF32)", "–"),
    "training_bfloat16": ("PGD-7 training of a ResNet-18, bfloat16", "plain loop", "≥ 1.5"),
    "training_float32": ("the same in IEEE float32", "plain loop", "–"),
    "side_by_side": ("8 small trainings at once on one GPU", "one after the other", "≥ 4"),
    "autoattack": ("AutoAttack on a ResNet-18, 128 images of which half survive PGD", "auto-attack's own code", "≥ 1"),
}


@dataclass(frozen=True)
class Row:
    """One result: median seconds of both sides, their ratio and the target that DESIGN states, and remarks."""

    work: str
    peer: str
    ours_s: float
    peer_s: float
    target: float | None
    remark: str

    @property
    def ratio(self) -> float:
        """Seconds of the peer, divided by ours."""
        return self.peer_s / self.ours_s


def page(results: dict[str, Any] | None) -> str:
    """Return the text of `docs/gpu.md`; without results it says so."""
    return TEMPLATE.read_text(encoding="utf-8").replace("{measured}", "\n".join(measured(results)))


def measured(results: dict[str, Any] | None) -> list[str]:
    """Return the lines of the page about what was measured, or will be."""
    if results is None:
        return [
            "`benchmarks/gpu.py` was not run on a GPU so far. It will measure:",
            "",
            "| work | compared with | target |",
            "|---|---|---|",
            *(f"| {' | '.join(DESCRIPTIONS[name])} |" for name in DESCRIPTIONS),
        ]
    machine = f"{results['device']}, {results['cores']} CPU cores, torch {results['torch']}"
    lines = [
        f"{machine}, commit {results['commit'][:12]}, {results['date']}: `{results['command']}`.",
        "Medians of wall time; a ratio above 1 means that Gauntlet is faster.",
        "",
        "| work | compared with | Gauntlet s | other s | ratio | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (Row(**entries) for entries in results["rows"]):
        missed = row.target is not None and row.ratio < row.target
        target = "–" if row.target is None else f"≥ {row.target:g}{' (missed)' if missed else ''}"
        times = f"{row.ours_s:.3g} | {row.peer_s:.3g} | {row.ratio:.2f}"
        lines.append(f"| {row.work} | {row.peer} | {times} | {target} | {row.remark} |")
    if results["left_out"]:
        lines += ["", f"Left out for lack of time: {', '.join(results['left_out'])}."]
    return lines


def stored_results() -> dict[str, Any] | None:
    """Return the results that the page shows, or None."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None


def write_page() -> None:
    """Write the page anew."""
    PAGE.write_text(page(stored_results()), encoding="utf-8")


if __name__ == "__main__":
    write_page()
