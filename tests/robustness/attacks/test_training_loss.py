"""Attacks that ascend the loss a network was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gauntlet
from gauntlet.config.attacks import Attack
from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError
from gauntlet.core.geometry import Ball
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import save_model
from gauntlet.pipeline.stage import Cell, Scope
from gauntlet.pipeline.stages.evaluate import declaration
from gauntlet.pipeline.staleness import Staleness
from gauntlet.registry import Spec

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
EPSILON = 0.1
TRAINED: dict[str, tuple[Spec, Spec]] = {
    "codes": (Spec("cnn", {"widths": [4, 4], "head": {"name": "ecc"}}), Spec("hinge")),
    "sigmoid": (Spec("cnn", {"widths": [4, 4], "head": {"name": "sigmoid"}}), Spec("sigmoid_bce")),
    "smooth": (Spec("cnn", {"widths": [4, 4]}), Spec("cross_entropy", {"label_smoothing": 0.2})),
    "batch": (Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8}), Spec("hkr", {"alpha": 100.0, "margin": 0.25})),
}


def network_of(kind: str) -> tuple[Network, Tensor]:
    """Return an untrained network that names its training loss, and the labels that it predicts for IMAGES."""
    model, loss = TRAINED[kind]
    network = build(model, image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,), seed=1).eval()
    network.training_loss = loss
    with torch.no_grad():
        return network, network(IMAGES).argmax(1)


def ascended(network: Network, labels: Tensor, loss: Spec) -> Tensor:
    """Return the images after one step along the sign of the gradient of each image's own loss."""
    leaf = IMAGES.clone().requires_grad_(True)
    criterion = build_loss(loss)
    own = [criterion(network, network.outputs(leaf[row : row + 1]), labels[row : row + 1]).sum() for row in range(12)]
    (gradient,) = torch.autograd.grad(torch.stack(own).sum(), leaf)
    return (IMAGES + EPSILON * gradient.sign()).clamp(0, 1)


@pytest.mark.parametrize("kind", list(TRAINED))
def test_fgsm_takes_the_sign_of_the_training_loss(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is x + epsilon sign(gradient of the criterion), for losses per sample and of a batch."""
    network, labels = network_of(kind)
    seen: list[Tensor] = []
    full_step = Ball.full_step
    monkeypatch.setattr(Ball, "full_step", lambda self, gradient: seen.append(full_step(self, gradient)) or seen[-1])
    attack = {"name": "fgsm", "norm": "linf", "epsilons": [EPSILON], "loss": "training"}
    rows = gauntlet.evaluate(network, IMAGES, labels, attack)
    expected = ascended(network, labels, network.training_loss)
    assert float(((seen[0] - expected).abs() > 1e-6).double().mean()) < 0.01  # a gradient of 0 has any sign
    fooled = network(expected).argmax(1) != labels
    found = torch.tensor([status == "adversarial" for status in rows["status"].to_pylist()])
    assert int((fooled == found).sum()) >= 11
    assert rows["forwards"].to_pylist() == [1] * 12
    assert rows["backwards"].to_pylist() == [1] * 12


@pytest.mark.parametrize("name", ["bim", "mi_fgsm", "pgd", "apgd"])
@pytest.mark.parametrize("kind", list(TRAINED))
def test_iterative_attacks_raise_the_training_loss(name: str, kind: str) -> None:
    """They fool images, and none depends on the others in its batch."""
    network, labels = network_of(kind)
    attack = {"name": name, "norm": "linf", "epsilons": [0.3], "loss": "training", "steps": 10}
    rows = gauntlet.evaluate(network, IMAGES, labels, attack, precision="float64")
    assert rows["status"].to_pylist().count("adversarial") >= 6
    alone = gauntlet.evaluate(network, IMAGES[3:4], labels[3:4], attack, precision="float64")
    assert alone["status"][0] == rows["status"][3]
    assert alone["linf"][0].as_py() == pytest.approx(rows["linf"][3].as_py(), abs=1e-9)


def test_a_stored_network_keeps_its_loss(tmp_path: Path) -> None:
    """A network from `gauntlet.load_model`, exported or not, is attacked as the one that was stored."""
    for kind in ("codes", "batch"):
        network, labels = network_of(kind)
        save_model(network, tmp_path / kind)
        loaded = gauntlet.load_model(tmp_path / kind)
        assert loaded.training_loss == TRAINED[kind][1]
        attack = {"name": "fgsm", "norm": "linf", "epsilons": [EPSILON], "loss": ["training", "margin"]}
        assert gauntlet.evaluate(loaded, IMAGES, labels, attack).equals(
            gauntlet.evaluate(network, IMAGES, labels, attack)
        )


def test_a_model_without_a_training_loss_is_refused_in_one_line() -> None:
    """A plain module, and a network that was not trained, have none."""
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    network, labels = network_of("codes")
    network.training_loss = None
    attack = {"name": "pgd", "norm": "linf", "epsilons": [EPSILON], "loss": "training"}
    for model, y in ((plain, plain(IMAGES).argmax(1)), (network, labels)):
        with pytest.raises(InputError, match=r"does not name the loss it was trained with.*load_model") as refused:
            gauntlet.evaluate(model, IMAGES, y, attack)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"targets": 2}, "targets"),
        ({"surrogate": "code_bits"}, "a surrogate"),
        ({"draws": 5}, "draws"),
        ({"transfer_from": ["a", "b"]}, "several sources"),
    ],
)
def test_what_has_no_training_loss_is_refused_before_training(change: dict[str, Any], complaint: str) -> None:
    """Targets, surrogates, draws and ensembles cannot be combined with it, in any position of a list."""
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.1], "loss": ["margin", "training"]}
    Attack.model_validate(attack)
    with pytest.raises(ValueError, match=f"the training loss cannot be combined with {complaint}"):
        Attack.model_validate({**attack, **change})


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        ("margn", "unknown loss 'margn'; did you mean 'margin'"),
        ([], "a list of these"),
        (["dlr", "dlr"], "twice"),
        (3, "expected one of cross_entropy"),
        ([1], "unknown loss 1"),
    ],
)
def test_losses_are_checked(loss: Any, complaint: str) -> None:
    """Unknown, repeated and missing losses are refused; a list of one is the loss itself."""
    attack = {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}
    with pytest.raises(ValueError, match=complaint):
        Attack.model_validate({**attack, "loss": loss})
    assert Attack.model_validate({**attack, "loss": ["margin"]}) == Attack.model_validate({**attack, "loss": "margin"})


def test_a_loss_with_a_state_is_refused() -> None:
    """Its state is that of the training, which the network does not have: refused in the file and at the call."""
    network, labels = network_of("batch")
    network.training_loss = Spec("soft_hkr", {})
    attack = {"name": "fgsm", "norm": "linf", "epsilons": [0.1], "loss": "training"}
    with pytest.raises(InputError, match="soft_hkr has a state"):
        gauntlet.evaluate(network, IMAGES, labels, attack)
    variants = {"a": {"model": "lipschitz_cnn", "loss": "soft_hkr"}}
    settings = {"dataset": "sklearn_digits", "seeds": [0], "variants": variants, "attacks": {"t": attack}}
    with pytest.raises(ValueError, match="soft_hkr has a state"):
        Config.model_validate({"experiments": {"e": settings}})


def test_the_code_of_the_loss_belongs_to_the_recipe() -> None:
    """An edit of the loss makes the cells of these attacks stale, those of a transfer's source included."""
    variants = {
        "a": {"model": {"name": "cnn", "head": "ecc"}, "loss": "hinge"},
        "b": {"model": "cnn", "loss": "cross_entropy"},
    }
    base = {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}
    attacks = {"t": {**base, "loss": "training"}, "m": base, "x": {**base, "loss": "training", "transfer_from": "a"}}
    settings = {"dataset": "sklearn_digits", "seeds": [0], "variants": variants, "attacks": attacks}
    config = Config.model_validate({"experiments": {"e": settings}})
    scope, staleness = Scope("e", config), Staleness.of(config)

    losses = "gauntlet.learning.losses."

    def modules(variant: str, attack: str) -> set[str]:
        cell = Cell(declaration.STAGE, "e", variant, 0, attack)
        return {name for name in declaration.STAGE.modules(cell, scope, staleness) if name.startswith(losses)}

    assert modules("a", "t") == {"gauntlet.learning.losses.hinge"}
    assert modules("b", "t") == {"gauntlet.learning.losses.cross_entropy"}
    assert modules("a", "m") == set()
    assert "gauntlet.learning.losses.hinge" in modules("b", "x")
