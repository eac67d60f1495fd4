"""Table of the registered attacks; `python -m gauntlet.config.attack_table README.md` renews it in the README."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gauntlet.core.norms import NORM_TEXT, NORMS
from gauntlet.registry import ATTACKS

BEGIN = "<!-- attacks: renew with `python -m gauntlet.config.attack_table README.md` -->\n"
END = "<!-- end of attacks -->\n"
_KINDS = {"bounded": "bounded", "minimum_norm": "minimum norm"}


def attack_table() -> str:
    """Write the Markdown table: one row per registered attack, and one for the attacks of Foolbox."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "| name | norms | access | kind | paper |"
    yield "|---|---|---|---|---|"
    for name in ATTACKS.names():
        tags = ATTACKS.entry(name).tags
        norms = ", ".join(NORM_TEXT[norm] for norm in NORMS if norm in tags["norms"])
        yield f"| `{name}` | {norms} | {tags['access']} | {_KINDS[tags['kind']]} | {tags['source']} |"
    yield "| `foolbox:NAME` | its own | its own | its own | every attack of Foolbox that has a norm; its own options |"


def renew_table(page: str) -> str:
    """Return the text of a page with the table between its two markers replaced. Raises ValueError without markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no table of attacks: the page lacks {(END if begin else BEGIN).strip()}")
    return before + begin + attack_table() + end + after


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renew_table(path.read_text(encoding="utf-8")), encoding="utf-8")
