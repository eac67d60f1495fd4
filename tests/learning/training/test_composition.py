"""Combinations of components: each variant that `gauntlet check` accepts trains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from gauntlet.config.compatibility import variant_problems
from gauntlet.config.variants import Training, Variant
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import ACTIVATIONS, FOLDINGS, HEADS, LOSSES, NEGATIVES, REGULARIZERS, UNITS, Spec

DATA = prepare(Spec("sklearn_digits"), limit={"train": 100, "test": 40})
SMALL_BLOCKS = {"scrambling": {"blocks": [3]}}


def composed() -> Iterator[tuple[str, ...]]:
    """Yield each activation × unit × folding with cycled outputs, and each output × loss × negatives vice versa."""
    parts = list(itertools.product(ACTIVATIONS.names(), UNITS.names(), FOLDINGS.names()))
    outputs = list(itertools.product(HEADS.names(), LOSSES.names(), ("none", *NEGATIVES.names())))
    regularizers = itertools.cycle(("none", *REGULARIZERS.names()))
    fitting = [output for output in outputs if expected(*parts[0], *output) is None]
    for part, output in itertools.chain(
        zip(parts, itertools.cycle(fitting), strict=False), zip(itertools.cycle(parts[::-1]), outputs, strict=False)
    ):
        yield (*part, *output, next(regularizers))


def expected(activation: str, unit: str, folding: str, head: str, loss: str, negatives: str) -> str | None:
    """Return the key at which a combination is refused, or None, without the code under test."""
    logits = {"cross_entropy", "hkr", "hkr_torchlip", "lse_hkr", "soft_hkr"}
    losses = {"softmax": logits, "hadamard_code": logits, "ecc": {"hinge"}, "sigmoid": {"sigmoid_mse", "sigmoid_bce"}}
    if loss not in losses[head]:
        return "loss"
    if negatives != "none" and head != "sigmoid":
        return "training"
    return "model" if unit in ("elliptical", "spherical") and folding == "minmaxout" else None


@pytest.mark.parametrize(
    ("activation", "unit", "folding", "head", "loss", "negatives", "regularizer"),
    [pytest.param(*one, id="-".join(one)) for one in dict.fromkeys(composed())],
)
def test_a_variant_is_refused_at_its_key_or_trains(
    activation: str, unit: str, folding: str, head: str, loss: str, negatives: str, regularizer: str
) -> None:
    """A step leaves finite weights and changes each one that has a gradient."""
    names = {"activation": activation, "unit": unit, "folding": folding, "head": head}
    variant = Variant(model={"name": "mnist_cnn", "widths": [2, 2], **names}, loss=loss)
    drawn = None if negatives == "none" else {"name": negatives, **SMALL_BLOCKS.get(negatives, {})}
    regularizers = [] if regularizer == "none" else [regularizer]
    settings = Training(negatives=drawn, regularizers=regularizers)
    refused = [str(place[0]) for place, _ in variant_problems(variant, settings)]
    key = expected(activation, unit, folding, head, loss, negatives)
    assert (key in refused) if key else not refused
    if key:
        return
    network = build(variant.model, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std, seed=0)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    run = TrainingRun(
        network,
        variant.loss,
        DATA.splits["train"],
        DATA.splits["validation"],
        settings=Training(
            epochs=1,
            batch_size=16,
            optimizer=Spec("adam", {"lr": 0.01}),
            negatives=settings.negatives,
            regularizers=settings.regularizers,
        ),
        seed=0,
    )
    run.run_steps(1)
    for name, weight in network.named_parameters():
        assert torch.isfinite(weight).all(), name
        assert not torch.equal(weight, before[name]), name
