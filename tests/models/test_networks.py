"""Every registered network and head, and classes by import path."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gauntlet.errors import InputError
from gauntlet.models.build import build
from gauntlet.models.codes import hadamard_code, log_probabilities
from gauntlet.models.network import Network
from gauntlet.registry import HEADS, MODELS, Spec

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
SMALLER = {"vgg": {"depth": 11, "capacity": 0.25}}


def architectures() -> list[Spec]:
    """Every registered network, with every registered head where it takes one."""
    specs = []
    for name in MODELS.names():
        if "head" in MODELS.entry(name).tags.get("parts", ()):
            specs += [Spec(name, {**SMALLER.get(name, {}), "head": {"name": head}}) for head in HEADS.names()]
        else:
            specs.append(Spec(name))
    return [*specs, Spec("cnn", {"head": {"name": "ecc", "heads": 4}}), Spec("lipschitz_cnn", {"output": "disjoint"})]


def built(spec: Spec, shape: tuple[int, int, int] = (1, 28, 28), *, seed: int = 0, num_classes: int = 10) -> Network:
    """A network in evaluation mode."""
    mean, std = (0.3,) * shape[0], (0.4,) * shape[0]
    return build(spec, image_shape=shape, num_classes=num_classes, mean=mean, std=std, seed=seed).eval()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_networks_map_unit_images_to_logits_with_gradients(spec: Spec, shape: tuple[int, int, int]) -> None:
    """Logits (B, K), finite, with a gradient to the pixels through every view; lenet alone refuses small images."""
    if spec.name == "lenet" and shape[1] == 8:
        with pytest.raises(InputError, match="use `cnn`"):
            built(spec, shape)
        return
    network = built(spec, shape)
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    assert network(x).shape == (5, 10)
    assert torch.equal(network(x), network.decode(network.outputs(x)))
    for view in network.surrogates.values():
        pixels = x.clone().requires_grad_()
        scores = view(pixels)
        assert scores.shape == (5, 10)
        (gradient,) = torch.autograd.grad(scores[:, 0].sum(), pixels)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_black_images_have_finite_gradients(spec: Spec) -> None:
    """Large flat regions, as in digits, lead no layer's gradient to infinity."""
    network = built(spec)
    pixels = torch.zeros(2, 1, 28, 28, requires_grad=True)
    network(pixels).pow(2).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_weights_are_decided_by_the_seed_alone(spec: Spec) -> None:
    """The same seed builds the same weights whatever the global state, which stays as it was."""
    torch.manual_seed(1)
    first = built(spec).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = built(spec).state_dict(), built(spec, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_normalisation_is_the_first_layer() -> None:
    """A network sees (x - mean) / std of each channel, and takes pixels in [0, 1]."""
    network = build(Spec("cnn"), image_shape=(3, 8, 8), num_classes=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    seen: list[torch.Tensor] = []
    network.body.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network(torch.full((1, 3, 8, 8), 0.6))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([1.0, 1.6, 0.3])


def test_lenet_has_the_layers_of_the_source() -> None:
    """The parameter count of source A's LeNet on CIFAR-10 images: 122 570."""
    network = built(Spec("lenet"), (3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == 122_570


@pytest.mark.parametrize(("num_classes", "length"), [(2, 2), (3, 4), (10, 16), (16, 16), (17, 32)])
def test_code_has_the_smallest_power_of_two_and_far_codewords(num_classes: int, length: int) -> None:
    """Codewords are ±1, as long as needed and no longer, and differ in half their bits or more."""
    code = hadamard_code(num_classes)
    assert code.shape == (num_classes, length)
    assert set(code.unique().tolist()) == {-1.0, 1.0}
    differing = (code[:, None] != code[None]).sum(-1)
    off_diagonal = differing[~torch.eye(num_classes, dtype=torch.bool)]
    assert off_diagonal.min() >= length // 2
    assert code[:, 0].tolist() == [(-1.0) ** (row + 1) for row in range(num_classes)]


def test_code_matrix_is_sylvesters_beyond_its_first_column() -> None:
    """The rows are those of the Sylvester-Hadamard matrix in its own order."""
    from scipy.linalg import hadamard

    assert hadamard_code(10)[:, 1:].tolist() == hadamard(16)[:10, 1:].tolist()


def test_a_codeword_decodes_to_its_class_with_the_top_probability() -> None:
    """Every codeword gives its class 0.99999 or a little less; probabilities sum to 1."""
    code = hadamard_code(10)
    probabilities = log_probabilities(code, code).exp()
    assert probabilities.argmax(dim=1).tolist() == list(range(10))
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(10))
    assert probabilities.max(dim=1).values.tolist() == pytest.approx([0.99999] * 10, abs=2e-5)


def test_decoding_weights_classes_by_inverse_distance() -> None:
    """p_k is proportional to 1 / L1 distance, on a word worked out by hand."""
    code = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    word = torch.tensor([[0.5, 1.0]])  # distances 0.5 and 1.5
    assert log_probabilities(word, code).exp()[0].tolist() == pytest.approx([0.75, 0.25])


def test_code_bits_view_is_before_the_tanh() -> None:
    """The surrogate still has a gradient where the saturated network has none."""
    network = built(Spec("cnn", {"head": {"name": "ecc"}}))
    with torch.no_grad():
        for branch in network.head.branches:  # type: ignore[union-attr]
            branch[-1].weight *= 1e4
    pixels = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (saturated,) = torch.autograd.grad(network(pixels).sum(), pixels)
    (surrogate,) = torch.autograd.grad(network.surrogates["code_bits"](pixels)[:, 0].sum(), pixels)
    assert saturated.abs().max() == 0
    assert surrogate.abs().min() >= 0
    assert surrogate.abs().max() > 1


def test_heads_share_bits_and_hidden_units_as_in_the_source() -> None:
    """Four heads of dense(16), dense(4) on 16 bits; a number that does not divide is refused."""
    network = built(Spec("cnn", {"head": {"name": "ecc", "heads": 4, "hidden": 64}}))
    shapes = [tuple(layer.weight.shape[:1]) for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(16,), (4,)] * 4
    with pytest.raises(InputError, match="3 heads cannot share 16 code bits"):
        built(Spec("cnn", {"head": {"name": "ecc", "heads": 3}}))


class TestImportPath:
    """Any module class of a user's own."""

    @pytest.fixture(autouse=True)
    def _on_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pathlib import Path

        monkeypatch.syspath_prepend(str(Path(__file__).parent))

    @pytest.mark.parametrize("name", ["user_networks:Plain", "user_networks:Free"])
    def test_class_is_built_with_what_it_names(self, name: str) -> None:
        """The constructor gets the sizes it names and its options; normalisation comes first."""
        network = built(Spec(name, {"width": 6}), (3, 8, 8), num_classes=7)
        x = torch.rand(4, 3, 8, 8)
        assert network(x).shape == (4, 7)
        assert network.body.layers[0].weight.shape == (6, 3, 3, 3)  # type: ignore[union-attr, index]
        assert torch.equal(network(x), network.body((x - 0.3) / 0.4))
        assert set(network.surrogates) == {"logits"}
        assert network.lipschitz is None

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("user_networks:NoModule", "no class of networks"),
            ("user_networks:function", "no class of networks"),
            ("user_networks:Failing", "cannot be constructed: RuntimeError: no such thing$"),
            ("user_networks:WrongShape", r"gives \(2,\) for two images, expected \(2, 10\)"),
            ("user_networks:NotFinite", "not finite"),
        ],
    )
    def test_what_is_no_classifier_is_refused_in_one_line(self, name: str, message: str) -> None:
        """Each way of being no network has its message."""
        with pytest.raises(InputError, match=message):
            built(Spec(name))

    def test_unknown_option_is_refused(self) -> None:
        """An option that the constructor does not know is told with the reason."""
        with pytest.raises(InputError, match="wdith"):
            built(Spec("user_networks:Plain", {"wdith": 3}))
