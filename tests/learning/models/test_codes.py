"""Error-correcting output codes: codewords, decoder, and the two heads that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.linalg import hadamard
from torch import nn
from torch.nn import functional

from gauntlet.core.errors import InputError
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.codes import hadamard_code, log_probabilities
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.registry import Spec

HEADS_OF_CODES = {"ecc": "hinge", "hadamard_code": "cross_entropy"}
LENGTHS = [2, 4, 8, 16, 32, 64]


def built(name: str, *, num_classes: int = 10, **options: Any) -> Network:
    """Return a small network with a head of code bits, in evaluation mode."""
    spec = Spec("cnn", {"widths": [4], "head": {"name": name, "hidden": 16, **options}})
    return build(spec, image_shape=(1, 8, 8), num_classes=num_classes, mean=(0.3,), std=(0.4,)).eval()


@pytest.mark.parametrize(("num_classes", "length"), [(2, 2), (3, 4), (10, 16), (16, 16), (17, 32)])
def test_a_code_has_the_smallest_sufficient_length(num_classes: int, length: int) -> None:
    """Codewords are ±1, with the smallest power of two as length; a cut code has one bit fewer."""
    code = hadamard_code(num_classes)
    assert code.shape == (num_classes, length)
    assert set(code.unique().tolist()) == {-1.0, 1.0}
    assert code[:, 0].tolist() == [(-1.0) ** (row + 1) for row in range(num_classes)]
    assert hadamard_code(num_classes, first_column="cut").tolist() == code[:, 1:].tolist()


@pytest.mark.parametrize("length", LENGTHS)
def test_codewords_differ_in_half_the_length(length: int) -> None:
    """Codewords of a cut code differ in L / 2 bits; of an alternating one, even and odd rows in one more."""
    cut, alternating = hadamard_code(length, first_column="cut"), hadamard_code(length)
    apart = ~torch.eye(length, dtype=torch.bool)
    assert set((cut[:, None] != cut[None]).sum(-1)[apart].tolist()) == {length // 2}
    rows = torch.arange(length)
    expected = length // 2 + (rows[:, None] + rows[None]) % 2
    assert torch.equal((alternating[:, None] != alternating[None]).sum(-1)[apart], expected[apart])


def test_a_longer_code_than_needed_has_the_first_rows_of_its_matrix() -> None:
    """The codewords are the first rows of the Sylvester-Hadamard matrix."""
    for length in (16, 64):
        assert hadamard_code(10, length, first_column="cut").tolist() == hadamard(length)[:10, 1:].tolist()


@pytest.mark.parametrize(
    ("length", "message"), [(12, "12 is not a power of two"), (1, "not a power of two"), (8, "too few words for 10")]
)
def test_a_length_that_is_no_code_is_refused(length: int, message: str) -> None:
    """A length that is not a power of two, or too short for the classes, is refused."""
    with pytest.raises(InputError, match=message):
        hadamard_code(10, length)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("power", "probability"), [(1.0, 0.95), (2.0, 0.95), (0.25, 0.8), (1.0, 0.99999)])
def test_a_codeword_of_a_cut_code_has_max_probability(length: int, power: float, probability: float) -> None:
    """A codeword has exactly `max_probability` for its class and equal shares for the others."""
    code = hadamard_code(length, first_column="cut").double()
    probabilities = log_probabilities(code, code, power=power, max_probability=probability).exp()
    rest = (1 - probability) / (length - 1)
    expected = torch.full((length, length), rest, dtype=torch.float64).fill_diagonal_(probability)
    assert torch.allclose(probabilities, expected, rtol=1e-9, atol=0)


def test_a_codeword_of_an_alternating_code_has_about_max_probability() -> None:
    """A codeword has a probability of 0.99999 or slightly less, and probabilities sum to 1."""
    code = hadamard_code(10)
    probabilities = log_probabilities(code, code).exp()
    assert probabilities.argmax(dim=1).tolist() == list(range(10))
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(10))
    assert probabilities.max(dim=1).values.tolist() == pytest.approx([0.99999] * 10, abs=2e-5)


@pytest.mark.parametrize(("power", "expected"), [(1.0, [0.75, 0.25]), (2.0, [0.9, 0.1]), (0.5, [0.63397, 0.36603])])
def test_decoding_weights_classes_by_a_power_of_inverse_distance(power: float, expected: list[float]) -> None:
    """p_k is proportional to 1 / distance ** power, computed by hand for distances 0.5 and 1.5."""
    code, word = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.tensor([[0.5, 1.0]])
    assert log_probabilities(word, code, power=power).exp()[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_word_nearer_than_the_floor_counts_as_at_the_floor() -> None:
    """The floor is 4 (0.2 / (0.8 2)) ** (1 / 2), the root of 2; the distances are 0.4, 3.6 and 3.6."""
    code = hadamard_code(3, first_column="cut")
    found = log_probabilities(torch.tensor([[1.0, 1.0, 0.6]]), code, power=2.0, max_probability=0.8).exp()[0].tolist()
    assert found == pytest.approx([0.764151, 0.117925, 0.117925], rel=1e-5)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.25])
def test_gradients_of_the_decoder_equal_finite_differences(power: float) -> None:
    """The comparison is in float64, at words between the codewords."""
    code = hadamard_code(5, first_column="cut").double()
    word = torch.randn(6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tanh().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: log_probabilities(x, code, power=power, max_probability=0.95), (word,))


@pytest.mark.parametrize(("name", "loss"), HEADS_OF_CODES.items())
def test_gradients_of_the_training_loss_equal_finite_differences(name: str, loss: str) -> None:
    """The comparison is in float64, through head and loss."""
    network = built(name, num_classes=3, heads=2).double()
    width = network.head.branches[0][0].in_features  # type: ignore[union-attr, index]
    features = torch.randn(4, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, objective = torch.tensor([0, 1, 2, 1]), build_loss(Spec(loss))
    assert torch.autograd.gradcheck(
        lambda x: objective(network, network.head(x), labels), (features.requires_grad_(),), eps=1e-7
    )


def test_the_decoder_outputs_normalized_log_probabilities() -> None:
    """Probabilities sum to 1 and are at most `max_probability`; softmax leaves them unchanged."""
    network = built("hadamard_code", max_probability=0.8)
    with torch.no_grad():
        for branch in network.head.branches:  # type: ignore[union-attr]
            branch[-1].weight *= 1e3
    logits = network(torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(logits.log_softmax(1), logits, atol=1e-6)
    assert logits.exp().max() <= 0.8 + 1e-5
    labels = torch.arange(200) % 10
    assert torch.allclose(functional.cross_entropy(logits, labels), -logits[torch.arange(200), labels].mean())


@pytest.mark.parametrize(("name", "bits"), [("ecc", [4, 4, 4, 4]), ("hadamard_code", [3, 4, 4, 4])])
def test_heads_share_bits_and_hidden_units_as_in_the_source(name: str, bits: list[int]) -> None:
    """Four heads of dense(4) have four bits each; in a cut code the first has three."""
    network = built(name, heads=4)
    shapes = [layer.out_features for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [size for share in bits for size in (4, share)]


@pytest.mark.parametrize("name", HEADS_OF_CODES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "3 heads cannot share 1[56] code bits"),
        ({"heads": 8, "hidden": 12}, "8 heads cannot share"),
        ({"length": 12}, "not a power of two"),
        ({"length": 8}, "too few words"),
        ({"max_probability": 0.1}, "not above chance among 10 classes"),
    ],
)
def test_invalid_code_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    """Each invalid option is refused with its reason."""
    with pytest.raises(InputError, match=message):
        built(name, **options)


def test_a_head_without_a_bit_is_refused() -> None:
    """Sixteen heads of a cut code of 16 would leave the first without a bit."""
    with pytest.raises(InputError, match="16 heads cannot share 15 code bits"):
        built("hadamard_code", heads=16)


@pytest.mark.parametrize("name", HEADS_OF_CODES)
def test_the_code_bits_surrogate_is_before_the_tanh(name: str) -> None:
    """The surrogate has a gradient where the tanh is saturated."""
    network = built(name)
    assert network.adaptive[0] == ("code_bits", "margin")
    with torch.no_grad():
        for branch in network.head.branches:  # type: ignore[union-attr]
            branch[-1].weight *= 1e6
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (saturated,) = torch.autograd.grad(network(pixels)[:, 0].sum(), pixels)
    (surrogate,) = torch.autograd.grad(network.surrogates["code_bits"](pixels)[:, 0].sum(), pixels)
    assert saturated.abs().max() == 0
    assert surrogate.abs().max() > 1


@pytest.mark.parametrize("name", HEADS_OF_CODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_with_a_code_is_loaded_as_saved(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Options and code are stored, in either precision."""
    network = built(name, length=32, heads=2, power=2.0, max_probability=0.9)
    save_model(network, tmp_path)
    x = torch.rand(4, 1, 8, 8, dtype=dtype)
    loaded = load_model(tmp_path).to(dtype)
    assert loaded(x).dtype == dtype
    assert torch.equal(loaded(x), network.to(dtype)(x))
