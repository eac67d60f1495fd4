"""Each known mistake of robustness evaluations has a test, listed in docs/attacks.md."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from gauntlet.robustness.attacks.adapters.foolbox import _CountedModel
from gauntlet.robustness.attacks.base.model import AttackModel
from tests.support import ROOT

PAGE = (ROOT / "docs" / "attacks.md").read_text()
LISTED = re.findall(r"^\| [^|]+ \| ((?:`\w+`(?:, )?)+) \|$", PAGE.partition("\n## Mistakes")[2], flags=re.MULTILINE)
TESTS = {
    name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())
}


@pytest.mark.parametrize("names", LISTED)
def test_every_mistake_of_the_page_has_its_tests(names: str) -> None:
    """The tests named on the page exist."""
    assert set(re.findall(r"`(\w+)`", names)) <= TESTS


def test_the_page_lists_all_mistakes() -> None:
    """The page lists all 18 mistakes."""
    assert len(LISTED) == 18


def test_no_device_is_written_into_the_code() -> None:
    """The code names no GPU; attacks run on the model's device."""
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"""["']cuda:\d|\.cuda\(""", file.read_text()), file
    network = AttackModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval())
    assert _CountedModel(network)(torch.zeros(1, 1, 2, 2)).device == network.device
