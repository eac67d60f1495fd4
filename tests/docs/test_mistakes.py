"""Every mistake that made others' numbers wrong has a test; docs/attacks.md lists them, and this holds the list."""

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
    """The tests that the page names are there."""
    assert set(re.findall(r"`(\w+)`", names)) <= TESTS


def test_the_page_lists_all_mistakes() -> None:
    """None is dropped from the list in passing."""
    assert len(LISTED) == 17


def test_no_device_is_written_into_the_code() -> None:
    """No attack names a GPU: all work where the model is."""
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"""["']cuda:\d|\.cuda\(""", file.read_text()), file
    network = AttackModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval())
    assert _CountedModel(network)(torch.zeros(1, 1, 2, 2)).device == network.device
