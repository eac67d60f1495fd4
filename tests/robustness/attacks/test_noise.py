"""Salt-and-pepper noise and rubbish images."""

from __future__ import annotations

import pytest
import torch

from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.noise import rubbish, salt_and_pepper_noise
from tests.support.attack_problems import Problem


@pytest.mark.parametrize("count", [0.5, 1, 7, 40])
def test_salt_and_pepper_sets_at_most_epsilon_values(count: float, convolutional: Problem) -> None:
    """At most floor(epsilon) values become 0 or 1; places and colors depend on the sample."""
    x, y = torch.full((30, 1, 6, 6), 0.5), torch.zeros(30, dtype=torch.int64)
    model = AttackModel(convolutional.network)
    model.start_counting(30)
    noisy = salt_and_pepper_noise(model, x, y, norm="l0", epsilon=count, keys=torch.arange(30), draws=2)
    changed = noisy != x
    assert (changed.flatten(1).sum(1) == min(int(count), 36)).all()
    assert set(noisy[changed].tolist()) <= {0.0, 1.0}
    if count == 7:
        assert changed.flatten(1).sum(0).min() > 0
        assert 0.4 < noisy[changed].mean() < 0.6
    model.start_counting(3)
    some = salt_and_pepper_noise(model, x[5:8], y[5:8], norm="l0", epsilon=count, keys=torch.arange(5, 8), draws=2)
    assert torch.equal(some, noisy[5:8])


def test_salt_and_pepper_stays_in_its_ball_and_succeeds(convolutional: Problem) -> None:
    """Changes are within the L0 budget, and larger budgets break more."""
    result = convolutional.run("salt_and_pepper_noise", "l0", (1, 4, 30))
    assert result.errors == ()
    rows = result.rows.to_pandas()
    broken = rows[rows["status"] == "adversarial"]
    assert (broken["l0"] <= broken["epsilon"]).all()
    assert broken["epsilon"].nunique() > 1


def test_rubbish_is_noise_whatever_the_image(convolutional: Problem) -> None:
    """With epsilon 1 images are uniform in the box, and rows hold the model's confidence on them."""
    model = AttackModel(convolutional.network)
    keys, labels = torch.arange(200), torch.zeros(200, dtype=torch.int64)
    images = [
        rubbish(model, torch.full((200, 1, 6, 6), level), labels, norm="linf", epsilon=1.0, keys=keys)
        for level in (0.1, 0.9)
    ]
    assert torch.allclose(images[0], images[1], atol=1e-6)
    assert images[0].mean() == pytest.approx(0.5, abs=0.01)
    assert images[0].std() == pytest.approx(12**-0.5, abs=0.01)
    assert images[0].min() < 0.01
    assert images[0].max() > 0.99
    result = convolutional.run("rubbish", "linf", (1.0,))
    rows = result.rows.to_pandas()
    attacked = rows[rows["status"] != "already_wrong"]
    assert (attacked["adversarial_confidence"] != attacked["clean_confidence"]).all()
    assert (attacked["forwards"] == 0).all()
    # Noise has no class to keep: whatever the model calls it is no success.
    assert set(attacked["status"]) == {"robust"}
    assert attacked["epsilon"].isna().all()
    assert (attacked["adversarial_prediction"] != attacked["label"]).any()
