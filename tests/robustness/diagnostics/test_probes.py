"""Probes that distinguish masked gradients from sound ones, by the model alone."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from gauntlet.core.errors import InputError
from gauntlet.robustness.diagnostics.chance import compare_with_chance
from gauntlet.robustness.diagnostics.checks import CHECKS, add_verdicts
from gauntlet.robustness.diagnostics.gradient_comparison import has_wrong_gradient
from gauntlet.robustness.diagnostics.measurements import MEASUREMENT_SCHEMA
from gauntlet.robustness.diagnostics.plain_pgd import late_progress, margin_instability, plain_pgd, saturated_outputs
from gauntlet.robustness.diagnostics.probes import run_probes
from gauntlet.robustness.evaluation import CellIdentity
from tests.support.attack_problems import gaussian_problem
from tests.support.diagnosed_networks import (
    EPSILONS,
    OtherGradient,
    Rounded,
    Saturated,
    Shattered,
    digits,
    train_network,
)

SAMPLES = 64


def probed(network, **options):
    """Probe a network on the test images; return rows by check and norm, with verdicts."""
    _, _, x, y = digits()
    settings = {"epsilons": EPSILONS, "samples": SAMPLES, "steps": 10, "identity": CellIdentity("e", "v", 0)}
    table = run_probes(network, x, y, **settings | options)
    assert table.schema == MEASUREMENT_SCHEMA
    return {(row["check"], row["norm"]): row for row in add_verdicts(table).to_pylist()}


def having(rows, verdict):
    """List the checks with a verdict."""
    return {check for (check, _), row in rows.items() if row["verdict"] == verdict}


@pytest.fixture(scope="module")
def plain():
    """A network trained without a defense."""
    return train_network()


@pytest.fixture(scope="module")
def of_plain(plain):
    """The probes' rows for the plain network."""
    return probed(plain)


def test_a_plain_network_does_not_fail(of_plain):
    """Every probe runs in each of its norms, without failure or warning."""
    assert having(of_plain, "fail") == set()
    assert having(of_plain, "warn") == set()
    made = {name for name, check in CHECKS.items() if check.origin == "probe"}
    assert {check for check, _ in of_plain} == made
    assert {norm for check, norm in of_plain if check == "more_steps"} == {"linf", "l2"}
    assert of_plain["surrogate_beats_stock", "linf"]["verdict"] == "not_applicable"


def test_an_adversarially_trained_network_is_not_flagged():
    """A robust network with sound gradients is not flagged."""
    robust = train_network(epochs=12, epsilon=0.1)
    assert having(probed(robust), "fail") == set()


def test_an_error_correcting_network_is_flagged_with_samples():
    """Saturated bits have zero gradients, and those before the tanh succeed: both are reported with samples."""
    rows = probed(train_network(head="ecc", loss="hinge"))
    assert {"saturated_outputs", "surrogate_beats_stock"} <= having(rows, "fail")
    saturated = rows["saturated_outputs", None]
    assert saturated["value"] > 0.5
    assert len(saturated["samples"]) == 10
    assert "of 64 samples" in saturated["evidence"]
    assert "code_bits" in rows["surrogate_beats_stock", "linf"]["evidence"]


def test_a_rounded_input_has_zero_gradients_and_resists_the_attack(plain):
    """A model that the evaluator refuses is a finding, not an error."""
    rows = probed(Rounded(plain).eval())
    assert rows["zero_gradients", None]["value"] == 1.0
    assert having(rows, "fail") >= {"zero_gradients", "unbounded_budget", "saturated_outputs"}
    assert "PGD cannot run" in rows["more_steps", "linf"]["evidence"]


def test_a_saturated_softmax_passes_since_our_attacks_succeed(plain, of_plain):
    """Only the plain cross-entropy underflows, which the evidence says; no verdict becomes worse."""
    rows = probed(Saturated(plain).eval())
    assert having(rows, "fail") == having(of_plain, "fail")
    assert rows["zero_gradients", None]["verdict"] == "pass"
    assert int(rows["zero_gradients", None]["evidence"].split("(")[1].split()[0]) > 30


def test_small_logits_are_flagged_since_the_cross_entropy_is_a_poor_loss_there(plain, of_plain):
    """No prediction changes, but the softmax is flat: margin and DLR fool more in every norm."""
    epsilons = {**EPSILONS, "l1": (2.0, 4.0)}
    rows = probed(Saturated(plain, 1e-2).eval(), epsilons=epsilons)
    assert having(rows, "fail") == {"margin_beats_cross_entropy"}
    for norm in ("linf", "l2", "l1"):
        assert rows["margin_beats_cross_entropy", norm]["verdict"] == "fail"
        assert "margin" in rows["margin_beats_cross_entropy", norm]["evidence"]
    assert of_plain["margin_beats_cross_entropy", "linf"]["verdict"] == "pass"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_pgd_and_apgd_miss_on_small_logits_is_flagged(norm):
    """They fail above the exact distance to the boundary; the comparison of losses flags such a model."""
    problem, distance = gaussian_problem(norm, scale=1e-4)
    for name in ("pgd", "apgd"):
        missed = problem.run(name, norm, (1.05 * distance,)).rows["status"].to_pylist().count("robust")
        assert missed > 0.05 * len(problem.images)
    table = run_probes(problem.network, problem.images, problem.labels, epsilons={norm: (1.05 * distance,)})
    rows = {(row["check"], row["norm"]): row for row in add_verdicts(table).to_pylist()}
    assert rows["margin_beats_cross_entropy", norm]["verdict"] == "fail"


def test_two_classes_are_compared_without_dlr():
    """DLR needs three; cross-entropy and margin are the same there."""
    x, y = torch.rand(40, 1, 4, 4) * 0.2 + 0.2, torch.zeros(40, dtype=torch.int64)
    rows = add_verdicts(run_probes(Strip().eval(), x, y, epsilons={"linf": (0.2,)}, steps=5)).to_pylist()
    by_check = {row["check"]: row for row in rows}
    assert by_check["margin_beats_cross_entropy"]["value"] == 0
    assert "dlr" not in by_check["margin_beats_cross_entropy"]["evidence"]
    assert by_check["accuracy_at_chance"]["verdict"] == "not_applicable"  # one label only


def test_a_network_at_chance_fails_and_few_samples_do_not_pass(plain):
    """Labels that have nothing to do with the images show in the accuracy; eight samples are too few to pass."""
    _, _, x, y = digits()
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    few = run_probes(plain, x, shuffled, epsilons={"linf": (0.1,)}, samples=8, steps=5, batch_size=40)
    verdicts = {row["check"]: row["verdict"] for row in add_verdicts(few).to_pylist()}
    assert verdicts["accuracy_at_chance"] == "fail"
    assert verdicts["more_steps"] in ("not_enough_samples", "warn", "fail")
    assert "not_enough_samples" in verdicts.values()


def test_chance_is_that_of_the_most_frequent_label():
    """The value is the probability of as many correct answers when each is right as often as that label occurs."""
    labels = torch.tensor([0] * 6 + [1] * 4)
    correct = torch.tensor([True] * 8 + [False] * 2)
    found = compare_with_chance(correct, labels)
    assert found.value == pytest.approx(binomtest(8, 10, 0.6, alternative="greater").pvalue)
    assert (found.count, found.total) == (8, 10)
    assert compare_with_chance(~correct & False, labels).value == 1.0
    assert compare_with_chance(correct[:5], labels[:5]).value is None


def test_shattered_gradients_make_predictions_unstable(plain):
    """A fine wave on the logits changes the margin within a tiny distance."""
    rows = probed(Shattered(plain).eval())
    assert rows["unstable_predictions", "linf"]["verdict"] == "fail"


@pytest.mark.parametrize("kind", ["unrelated", "reversed", "one pixel"])
def test_a_gradient_of_another_function_is_flagged(plain, kind):
    """It is finite and not zero, so that attacks along it fail without another sign of it."""
    rows = probed(OtherGradient(plain, kind).eval(), epsilons={})
    assert having(rows, "fail") == {"wrong_gradients"}
    assert rows["wrong_gradients", None]["value"] > 0.7


def test_gradients_through_rounding_to_the_levels_of_pixels_pass(plain, of_plain):
    """They predict the changes in steps of several levels; a network that is not rounded needs no such steps."""
    _, _, x, y = digits()
    for network in (plain, OtherGradient(plain, "straight through").eval()):
        right = network(x).argmax(1) == y
        keys = torch.arange(int(right.sum()))
        assert not has_wrong_gradient(network, x[right], y[right], keys).any()
    assert of_plain["wrong_gradients", None]["value"] == 0


def test_a_constant_margin_has_no_wrong_gradient_and_a_random_model_is_not_compared():
    """Changes within rounding show nothing, and neither do those by a random model's draws."""

    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([1.0, 0.0]) + 1e-9 * x.flatten(1)[:, :2]

    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    assert not has_wrong_gradient(Constant(), x, y, torch.arange(3)).any()

    class Noisy(nn.Module):
        def forward(self, x):
            return (x + 0.01 * torch.randn_like(x)).flatten(1)[:, :2]

    x[:, :, 0, 0] = 0.9
    rows = run_probes(Noisy().eval(), x, y, epsilons={}, draws=5).to_pylist()
    by_check = {row["check"]: row for row in rows}
    assert by_check["wrong_gradients"]["value"] is None
    assert "random model" in by_check["wrong_gradients"]["evidence"]


def test_the_rows_depend_on_the_seed_alone_and_not_on_the_batch_size(plain):
    """Other batch sizes give the same verdicts on the same samples."""
    options = {"epsilons": {"linf": (0.1, 0.2), "l2": (0.5,)}, "samples": 16, "steps": 5}
    first = probed(plain, **options)
    assert probed(plain, **options) == first
    for size in (5,):
        other = probed(plain, **options, batch_size=size)
        for key, row in first.items():
            assert other[key]["verdict"] == row["verdict"]
            assert other[key]["value"] == pytest.approx(row["value"], abs=1e-3)
    assert probed(plain, **options, identity=CellIdentity("e", "v", 1)) != first


def test_the_first_correctly_classified_samples_are_probed(plain):
    """Indices are positions in the split, for any batch size."""
    _, _, x, y = digits()
    rows = probed(Rounded(plain).eval(), samples=12, batch_size=5)
    rounded_right = (Rounded(plain)(x).argmax(1) == y).nonzero()[:, 0].tolist()
    assert rows["zero_gradients", None]["samples"] == rounded_right[:10]
    assert "of 12 samples" in rows["zero_gradients", None]["evidence"]


def test_norms_without_a_budget_are_not_probed(plain):
    """Gradients are checked all the same."""
    rows = probed(plain, epsilons={"linf": (0.1,), "l1": (3.0,)}, samples=5)
    assert {norm for check, norm in rows if check != "margin_beats_cross_entropy"} == {None, "linf"}
    assert set(probed(plain, epsilons={}, samples=5)) == {
        ("accuracy_at_chance", None),
        ("zero_gradients", None),
        ("nonfinite_gradients", None),
        ("saturated_outputs", None),
        ("wrong_gradients", None),
    }


def test_a_model_in_train_mode_is_refused(plain):
    """The probes refuse a model in train mode, as the evaluator does."""
    with pytest.raises(InputError, match="train mode"):
        probed(Saturated(plain).train())


class Strip(torch.nn.Module):
    """Model that errs at medium brightness only, with a gradient towards brighter images."""

    def forward(self, x):
        """Map images to logits."""
        brightness = x.mean((1, 2, 3))
        bonus = 2.0 * ((brightness > 0.55) & (brightness < 0.65))
        return torch.stack([torch.zeros_like(brightness), brightness - 1 + bonus], 1)


def test_silent_success_is_detected():
    """An attack that passes through the adversarial region and leaves it returns no adversarial image."""
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    trace = plain_pgd(Strip(), x, y, norm="linf", epsilon=0.2, steps=10, keys=torch.arange(3))
    assert trace.margins.shape == trace.fooled.shape == (11, 3)
    assert trace.fooled.any(0).all()
    assert not trace.fooled[-1].any()
    rows = add_verdicts(run_probes(Strip().eval(), x, y, epsilons={"linf": (0.2,)}, steps=10)).to_pylist()
    assert {row["check"]: row["verdict"] for row in rows}["silent_success"] == "fail"


def test_the_plain_pgd_does_not_move_on_zero_gradients(plain):
    """Its loss is not rescaled, and a sound model's images end within ε."""
    _, _, x, y = digits()
    keys = torch.arange(8)
    flat = plain_pgd(Rounded(plain), x[:8], y[:8], norm="l2", epsilon=0.01, steps=5, keys=keys)
    assert torch.equal(flat.margins[0], flat.margins[-1])
    sound = plain_pgd(plain, x[:8], y[:8], norm="linf", epsilon=0.2, steps=10, keys=keys)
    assert bool((sound.margins[-1] < sound.margins[0]).all())


def test_a_converged_loss_is_distinguished_from_a_decreasing_one():
    """The smallest loss so far is compared over the last quarter of the steps, rescaled per sample."""
    steps = torch.linspace(0, 1, 41)
    falling, rested = 5 - 3 * steps, torch.cat([5 - 3 * steps[:20], torch.full((21,), 1.0)])
    rising = torch.cat([torch.tensor([1.0]), 2 + steps[:40]])
    moved = late_progress(torch.stack([falling, rested, rising, torch.ones(41)], 1))
    assert moved.tolist() == pytest.approx([1 / 4, 0.0, 0.0, 0.0])


def test_instability_is_relative_and_capped():
    """A linear margin that doubles within reach counts as 1, and larger changes count no more."""

    class Linear(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).sum(1), torch.zeros(len(x))], 1)

    x, y = torch.full((2, 1, 1, 1), 0.1), torch.zeros(2, dtype=torch.int64)
    small = margin_instability(Linear(), x, y, lambda _: x + 0.05, 3)
    large = margin_instability(Linear(), x, y, lambda _: x + 0.9, 3)
    assert small.tolist() == pytest.approx([0.5, 0.5])
    assert large.tolist() == [1.0, 1.0]


def test_many_outputs_are_sampled():
    """At most 32 of a thousand outputs are examined."""
    weights = torch.ones(4, 1000)
    assert saturated_outputs(lambda x: x.flatten(1) @ weights, torch.rand(3, 1, 2, 2)).shape == (3, 32)


class NamedLogits(nn.Module):
    """Network that names its logits among other outputs, and has a layer called `outputs`."""

    def __init__(self, plain):
        super().__init__()
        self.plain, self.outputs = plain, nn.Linear(3, 2)

    def forward(self, x):
        """Return logits by name."""
        return {"logits": self.plain(x), "images": x}


def test_named_logits_and_a_layer_called_outputs_change_nothing(plain, of_plain):
    """The probes read the logits where the judge does."""
    assert probed(NamedLogits(plain).eval()) == of_plain
