"""Trained networks, for tests that compare attacks."""

from __future__ import annotations

from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.training.loop import fit
from gauntlet.registry import Spec
from tests.support.attack_problems import Problem


def trained_problem(
    source: Spec,
    *,
    model: Spec | None = None,
    loss: str = "cross_entropy",
    epochs: int = 10,
    train: int | None = None,
    test: int | None = None,
) -> Problem:
    """Train a network on a source; return it with the test images."""
    data = prepare(source, limit={"train": train, "test": test})
    split = data.splits["test"]
    network = build(
        model or Spec("cnn", {"widths": [8, 16]}),
        image_shape=split.image_shape,
        num_classes=10,
        mean=data.mean,
        std=data.std,
    )
    settings = Training(epochs=epochs, batch_size=64)
    fitted = fit(network, Spec(loss), data.splits["train"], data.splits["validation"], settings=settings, seed=0)
    return Problem(fitted.network.eval(), to_unit(split.images), split.labels)
