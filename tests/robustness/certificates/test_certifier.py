"""The interface of certificates: arguments, refused results, and the status of a sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError
from gauntlet.core.schemas import CERTIFICATE_SCHEMA
from gauntlet.registry import Spec
from gauntlet.robustness.certificates.certifier import certify, certify_parts
from gauntlet.robustness.evaluation import CellIdentity
from tests.support import cheating_certificates

SETTINGS = {"name": "c", "norm": "l2", "identity": CellIdentity("e", "v", 0)}
IMAGES = torch.rand(11, 1, 2, 2, generator=torch.Generator().manual_seed(0))


class Brightest(nn.Module):
    """Model whose logits are the pixels, so that nothing is rounded."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 2, 2)` to logits `(B, 4)`."""
        return x.flatten(1)


NETWORK = Brightest().eval()
LABELS = NETWORK(IMAGES).argmax(1)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("negative", "radii that are negative or not finite"),
        ("infinite", "radii that are negative or not finite"),
        ("misshapen", "no radii of shape"),
        ("own_negative", "radii that are negative or not finite"),
        ("own_abstains", "radii above 0 where it abstains"),
        ("own_short", "no CertifiedPredictions on"),
        ("own_radii_only", "no CertifiedPredictions on"),
        ("raising", "certificate tests.support.cheating_certificates:raising raised ValueError: no such layer"),
        ("own_raising", "raised TypeError: no such layer"),
    ],
)
def test_an_invalid_certificate_is_refused(name: str, problem: str) -> None:
    """A certificate that raises, or returns impossible radii or shapes, fails the cell with a message of one line."""
    with pytest.raises(GauntletError, match=problem):
        certify(NETWORK, IMAGES, LABELS, Spec(f"tests.support.cheating_certificates:{name}"), **SETTINGS)


@pytest.mark.parametrize("name", ["precise", "own_precise"])
def test_radii_in_float64_are_rounded_down(name: str) -> None:
    """To the nearest float32 number they would be above the certified radius; gradients are no part of them."""
    labels = LABELS if name == "precise" else torch.zeros_like(LABELS)
    rows = certify(NETWORK, IMAGES, labels, Spec(f"tests.support.cheating_certificates:{name}"), **SETTINGS)
    below = float(np.nextafter(np.float32(0.3), np.float32(0)))
    assert float(np.float32(cheating_certificates.PRECISE_RADIUS)) > 0.3
    assert set(rows["radius"].to_pylist()) == {below}


def test_out_of_memory_halves_the_batch() -> None:
    """The certificate is called again with half the batch size, and every image has a row."""
    cheating_certificates.BATCHES.clear()
    rows = certify(
        NETWORK, IMAGES, LABELS, Spec("tests.support.cheating_certificates:memory_hungry"), **SETTINGS, batch_size=32
    )
    assert cheating_certificates.BATCHES[:3] == [32, 16, 8]
    assert set(cheating_certificates.BATCHES[3:]) == {8}
    assert rows["index"].to_pylist() == list(range(11))


def test_a_classifier_of_its_own_is_judged_by_its_own_prediction() -> None:
    """Its wrong predictions are not certified, whatever the model predicts."""
    rows = certify(
        NETWORK, IMAGES, LABELS, Spec("tests.support.cheating_certificates:memory_hungry"), **SETTINGS, batch_size=8
    )
    assert rows.schema.equals(CERTIFICATE_SCHEMA)
    assert set(rows["clean_prediction"].to_pylist()) == {1}
    right = (LABELS == 1).tolist()
    assert 0 < sum(right) < len(right)
    assert rows["status"].to_pylist() == ["certified" if one else "already_wrong" for one in right]
    assert rows["radius"].to_pylist() == [float(one) for one in right]
    others = certify(
        NETWORK, IMAGES, torch.ones_like(LABELS), Spec("tests.support.cheating_certificates:memory_hungry"), **SETTINGS
    )
    assert set(others["status"].to_pylist()) == {"certified"}


@pytest.mark.parametrize("name", ["tests.support.cheating_certificates:memory_hungry", "smoothing"])
def test_parts_give_the_rows_of_the_whole(name: str) -> None:
    """Rows of a resumed cell equal those of an uninterrupted one."""
    whole = certify(NETWORK, IMAGES, LABELS, Spec(name), **SETTINGS, batch_size=8)
    found = {}
    for rows in certify_parts(NETWORK, IMAGES, LABELS, Spec(name), **SETTINGS, batch_size=8, ranges=[(1, 3), (7, 11)]):
        found |= {row["index"]: row for row in rows.to_pylist()}
    assert found == {row["index"]: row for row in whole.to_pylist() if row["index"] in (1, 2, 7, 8, 9, 10)}
