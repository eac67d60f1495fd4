"""Verdicts on hand-made rows: comparisons of attacks, thresholds, and flags of numbers."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch
from scipy.stats import binomtest

from gauntlet.api import evaluate
from gauntlet.core.errors import InputError
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import masked_variants, percent
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.diagnostics.attack_comparisons import ComparedAttack, compare_attacks
from gauntlet.robustness.diagnostics.checks import (
    CHECKS,
    DIAGNOSTICS_SCHEMA,
    add_verdicts,
    collect_flags,
    flags_for,
    lower_limit,
    worst_verdict,
)
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support.diagnosed_networks import digits, train_network

share, not_applicable = Measurement.share, Measurement.not_applicable

SAMPLES = 100
FGSM = ComparedAttack("fgsm", "linf", steps=1, epsilons=(0.1, 0.2))
PGD = ComparedAttack("pgd", "linf", steps=40, epsilons=(0.1, 0.2))
SPSA = ComparedAttack("spsa", "linf", access="scores", search="estimated", steps=20, epsilons=(0.1,))
TRANSFER = ComparedAttack("copied", "linf", access="gradient", transfer=True, epsilons=(0.1,))
NOISE = ComparedAttack("noise", "linf", access="scores", search="random", epsilons=(0.1,))
ADAPTIVE = ComparedAttack("through_bits", "linf", steps=40, surrogate="code_bits", epsilons=(0.1,))
MINIMUM = ComparedAttack("ddn", "linf", steps=40)

PAIRS = {
    "one_step_beats_many": FGSM,
    "black_box_beats_white_box": SPSA,
    "noise_beats_gradients": NOISE,
    "adaptive_beats_stock": ADAPTIVE,
}


def outcome(fooled, *, at=0.1, wrong=(), errors=(), order=None, **columns):
    """Return the rows of one attack: `fooled` maps samples to budgets, or lists those fooled at `at`."""
    budgets = fooled if isinstance(fooled, dict) else dict.fromkeys(fooled, at)
    rows = []
    for number in order or range(SAMPLES):
        status = "error" if number in errors else "adversarial" if number in budgets else "robust"
        rows.append(
            {
                "index": number,
                "label": 1,
                "clean_prediction": 2 if number in wrong else 1,
                "epsilon": 0.0 if number in wrong else budgets.get(number),
                "status": "already_wrong" if number in wrong else status,
                "sample_hash": f"h{number}",
                "backwards": 4,
                **{name: int(number in hit) for name, hit in columns.items()},
            }
        )
    table = pa.Table.from_pylist(rows)
    return table.set_column(table.schema.get_field_index("epsilon"), "epsilon", table["epsilon"].cast(pa.float64()))


def verdicts(*tables):
    """Return the verdicts on some rows by (check, norm)."""
    found = measurement_table(compare_attacks(tables), experiment="e", variant="v", seed=0)
    return {(row["check"], row["norm"]): row for row in add_verdicts(found).to_pylist()}


@pytest.mark.parametrize("few", ["weaker", "stronger"])
def test_attacks_are_compared_on_the_samples_that_both_were_run_on(few):
    """An attack on the first 40 samples is compared on these, and its share is of these."""
    weaker, stronger = outcome(range(10, 60)), outcome([])
    tables = {"weaker": weaker, "stronger": stronger}
    tables[few] = tables[few].slice(0, 40)
    found = compare_attacks([(FGSM, tables["weaker"]), (PGD, tables["stronger"])])
    share = next(one for one in found if one.check == "one_step_beats_many")
    assert (share.count, share.total, share.value) == (30, 40, 0.75)


@pytest.mark.parametrize("check", PAIRS)
@pytest.mark.parametrize(
    ("extra", "verdict"), [(0, "pass"), (1, "pass"), (4, "warn"), (5, "warn"), (9, "warn"), (17, "fail")], ids=str
)
def test_wins_of_the_weaker_attack_are_counted(check, extra, verdict):
    """One sample passes, a few warn, more than chance explains fail; samples that both attacks fool do not count."""
    if check == "adaptive_beats_stock" and extra == 17:
        extra = 18
    found = verdicts((PAIRS[check], outcome(range(20 + extra))), (PGD, outcome(range(20))))[check, "linf"]
    assert (found["verdict"], found["value"]) == (verdict, pytest.approx(extra / SAMPLES))
    assert found["samples"] == list(range(20, 20 + extra))[:10]
    assert found["evidence"].startswith(f"{extra} of {SAMPLES} samples")
    assert PAIRS[check].name in found["evidence"]
    assert "pgd" in found["evidence"]


@pytest.mark.parametrize("check", PAIRS)
def test_a_tie_is_no_win(check):
    """Equal budgets are no win for the weaker attack, and neither is a stronger gradient attack."""
    both = outcome(range(50))
    assert verdicts((PAIRS[check], both), (PGD, both))[check, "linf"]["value"] == 0
    assert verdicts((PAIRS[check], outcome(range(30))), (PGD, both))[check, "linf"]["verdict"] == "pass"


def test_budgets_are_compared_where_both_attacks_were_run():
    """Budgets that only one attack was given are not compared."""
    fine = ComparedAttack("fgsm", "linf", steps=1, epsilons=(0.05, 0.3))
    at_larger = verdicts((fine, outcome(range(40), at=0.05)), (PGD, outcome(range(40), at=0.1)))
    assert at_larger["one_step_beats_many", "linf"]["value"] == 0
    partly = verdicts((fine, outcome(range(40), at=0.3)), (PGD, outcome([])))
    assert partly["one_step_beats_many", "linf"]["value"] == 0
    too_late = verdicts((fine, outcome(range(40), at=0.05)), (PGD, outcome(range(40), at=0.2)))
    assert too_late["one_step_beats_many", "linf"]["value"] == 0.4


def test_attacks_without_a_budget_to_compare_at_do_not_pass():
    """If all stronger attacks have smaller budgets, nothing is compared, and the verdict says so."""
    large = ComparedAttack("fgsm", "linf", steps=1, epsilons=(0.3,))
    row = verdicts((large, outcome(range(40), at=0.3)), (PGD, outcome([])))["one_step_beats_many", "linf"]
    assert (row["verdict"], row["value"]) == ("not_applicable", None)
    assert "smaller budgets" in row["evidence"]
    compared = verdicts((large, outcome(range(40), at=0.3)), (FGSM, outcome(range(30))), (PGD, outcome([])))
    row = compared["one_step_beats_many", "linf"]
    assert row["value"] == 0.3
    assert "40" not in row["evidence"]


def test_budgets_are_compared_up_to_the_rounding_of_a_written_number():
    """0.0314 is 8/255, and a distance within a thousandth of a budget is no miss."""
    written = ComparedAttack("fgsm", "linf", steps=1, epsilons=(0.0314,))
    exact = ComparedAttack("pgd", "linf", steps=40, epsilons=(8 / 255,))
    for weaker, at, stronger in ((written, 0.0314, exact), (exact, 8 / 255, written)):
        single = ComparedAttack("single", "linf", steps=1, epsilons=weaker.epsilons)
        many = ComparedAttack("many", "linf", steps=40, epsilons=stronger.epsilons)
        row = verdicts((single, outcome(range(40), at=at)), (many, outcome([])))["one_step_beats_many", "linf"]
        assert (row["verdict"], row["value"]) == ("fail", 0.4)
    for distance, wins in ((0.1 * 1.0005, 0.0), (0.1 * 1.01, 0.4)):
        found = verdicts((SPSA, outcome(range(40), at=0.1)), (MINIMUM, outcome(range(40), at=distance)))
        assert found["black_box_beats_white_box", "linf"]["value"] == wins


def test_distances_of_two_minimum_norm_attacks_within_two_percent_are_equal():
    """A larger difference counts."""
    black_box = ComparedAttack("boundary", "linf", access="decision")
    for distance, wins in ((0.07 * 1.019, 0.0), (0.07 * 1.021, 0.4)):
        found = verdicts((black_box, outcome(range(40), at=0.07)), (MINIMUM, outcome(range(40), at=distance)))
        assert found["black_box_beats_white_box", "linf"]["value"] == wins


def test_a_plain_network_passes_though_the_boundary_attack_is_nearer_than_fab_on_some_images():
    """It masks nothing; the boundary attack is nearer by less than 1 %, within what counts as equal."""
    _, _, x, y = digits()
    x, y, network = x[:64], y[:64], train_network().eval()
    fab = evaluate(network, x, y, {"name": "fab", "norm": "l2"})
    boundary = evaluate(network, x, y, {"name": "foolbox:BoundaryAttack", "norm": "l2", "steps": 5000})
    pairs = zip(fab.to_pylist(), boundary.to_pylist(), strict=True)
    ratios = [ours["l2"] / theirs["l2"] for ours, theirs in pairs if ours["status"] != "already_wrong"]
    assert 1 < max(ratios) < 1.01
    attacks = ComparedAttack("fab", "l2"), ComparedAttack("boundary", "l2", access="decision")
    found = verdicts(*zip(attacks, (fab, boundary), strict=True))
    assert found["black_box_beats_white_box", "l2"]["verdict"] == "pass"
    assert found["black_box_beats_white_box", "l2"]["value"] == 0


def test_a_minimum_norm_attack_is_compared_at_every_budget():
    """Its distance is compared with the other attack's budget."""
    near = verdicts((FGSM, outcome(range(40))), (MINIMUM, outcome(range(40), at=0.07)))
    far = verdicts((FGSM, outcome(range(40))), (MINIMUM, outcome(range(40), at=0.15)))
    assert near["one_step_beats_many", "linf"]["verdict"] == "pass"
    assert far["one_step_beats_many", "linf"]["verdict"] == "fail"


def test_the_best_white_box_attack_counts_per_sample():
    """A sample that any white-box attack fools is no win of the black-box attack."""
    halves = [(PGD, outcome(range(20))), (MINIMUM, outcome(range(20, 40)))]
    assert verdicts((SPSA, outcome(range(40))), *halves)["black_box_beats_white_box", "linf"]["value"] == 0
    transferred = verdicts((TRANSFER, outcome(range(40))), halves[0])["black_box_beats_white_box", "linf"]
    assert transferred["value"] == 0.2


def test_samples_are_joined_by_content_and_only_correct_ones_count():
    """Order does not matter; misclassified samples and errors are left out."""
    shuffled = outcome(range(40), order=list(reversed(range(SAMPLES))))
    found = verdicts((SPSA, shuffled), (PGD, outcome(range(30))))["black_box_beats_white_box", "linf"]
    assert (found["value"], found["samples"]) == (0.1, list(range(30, 40)))
    half_wrong = {"wrong": range(50, 100)}
    found = verdicts((SPSA, outcome(range(10), **half_wrong)), (PGD, outcome([], **half_wrong)))
    assert found["black_box_beats_white_box", "linf"]["value"] == 0.2
    found = verdicts((SPSA, outcome(range(10))), (PGD, outcome([], errors=range(10))))
    assert found["black_box_beats_white_box", "linf"]["value"] == 0


def test_norms_do_not_mix_and_a_lone_attack_is_not_applicable():
    """Attacks of different norms are not compared."""
    other = ComparedAttack("pgd_l2", "l2", steps=40, epsilons=(1.0,))
    found = verdicts((SPSA, outcome(range(40))), (other, outcome([])))
    row = found["black_box_beats_white_box", "linf"]
    assert (row["verdict"], row["value"], row["threshold"]) == ("not_applicable", None, None)
    assert "no white-box attack" in row["evidence"]
    assert found["black_box_beats_white_box", "l2"]["verdict"] == "not_applicable"


def test_useless_gradients_are_counted_if_recorded():
    """Without their columns the checks do not apply."""
    bare = verdicts((PGD, outcome(range(3))))
    assert bare["zero_in_attacks", "linf"]["verdict"] == "not_applicable"
    judged_rows = verdicts((PGD, outcome([], nonfinite_gradients=[7], zero_gradients=range(20))))
    assert (
        judged_rows["nonfinite_in_attacks", "linf"]["verdict"],
        judged_rows["nonfinite_in_attacks", "linf"]["samples"],
    ) == (
        "warn",
        [7],
    )
    assert judged_rows["zero_in_attacks", "linf"]["verdict"] == "fail"


def test_zero_gradients_of_minimum_norm_attacks_are_normal():
    """Carlini-Wagner's loss is flat beyond the boundary; gradients that are not finite still count."""
    searched = outcome([], nonfinite_gradients=[7], zero_gradients=range(20))
    judged_rows = verdicts((PGD, outcome(range(3), nonfinite_gradients=[], zero_gradients=[3])), (MINIMUM, searched))
    assert (judged_rows["zero_in_attacks", "linf"]["verdict"], judged_rows["zero_in_attacks", "linf"]["samples"]) == (
        "pass",
        [3],
    )
    assert judged_rows["nonfinite_in_attacks", "linf"]["samples"] == [7]


def test_zero_gradients_of_dlr_beyond_the_boundary_are_normal():
    """The loss is constant where the label's logit is the third; samples that resist still count."""
    logits, label = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([1])
    assert not UNTARGETED_LOSSES["dlr"].derivative(logits, label, label).any()
    attack = ComparedAttack("apgd", "linf", epsilons=(0.1,), losses=("dlr",))
    flat = outcome(range(30), zero_gradients=range(20, 32))
    row = verdicts((attack, flat))["zero_in_attacks", "linf"]
    assert (row["verdict"], row["samples"]) == ("warn", [30, 31])
    assert "2 in all" in row["evidence"]
    assert verdicts((PGD, flat))["zero_in_attacks", "linf"]["verdict"] == "fail"


@pytest.mark.parametrize("loss", ["dlr", "margin"])
def test_a_plain_network_has_no_zero_gradients_in_attacks(loss):
    """Nothing is masked in it, whatever the attack ascends."""
    _, _, x, y = digits()
    attack = {"name": "apgd", "norm": "linf", "loss": loss, "steps": 10, "epsilons": [0.3]}
    rows = evaluate(train_network(epochs=8), x[:100], y[:100], attack)
    compared = ComparedAttack("apgd", "linf", epsilons=(0.3,), losses=(loss,))
    assert verdicts((compared, rows))["zero_in_attacks", "linf"]["verdict"] == "pass"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_check_has_a_pass_a_warning_and_a_failure(check):
    """A value at a threshold is the milder verdict; too few samples never fail; no value is not applicable."""
    assert 0 <= check.warn < check.fail < 1
    assert check.question.endswith("?")
    assert check.verdict(check.warn, int(1000 * check.warn), 1000) == ("pass", check.warn)
    assert check.verdict(check.fail, 1 + int(1000 * check.fail), 1000) == ("warn", check.warn)
    assert check.verdict(1.0, 1000, 1000) == ("fail", check.fail)
    assert check.verdict(1.0, check.min_samples - 1, 1000)[0] == "pass"
    assert check.verdict(None, 0, 0) == ("not_applicable", None)


def test_too_few_samples_are_no_pass():
    """A check passes on so many samples only that a share at the threshold of fail shows in 4 of 5 cases."""
    check = CHECKS["more_steps"]  # fails above 10 %
    assert check.verdict(0.0, 0, 15) == ("not_enough_samples", check.warn)
    assert check.verdict(0.0, 0, 16) == ("pass", check.warn)
    assert check.verdict(0.5, 4, 8)[0] == "fail"
    assert CHECKS["zero_gradients"].verdict(0.0, 0, 31)[0] == "not_enough_samples"
    assert CHECKS["zero_gradients"].verdict(0.0, 0, 32)[0] == "pass"
    assert worst_verdict(["pass", "not_enough_samples", "not_applicable"]) == "not_enough_samples"


def test_the_lower_limit_is_that_of_clopper_and_pearson():
    """It equals scipy's one-sided exact interval, and a share fails only above it."""
    for count, total in ((1, 10), (19, 365), (12, 100), (100, 100)):
        exact = binomtest(count, total, alternative="greater").proportion_ci(0.95).low
        assert lower_limit(count, total) == pytest.approx(exact)
    assert lower_limit(0, 10) == 0.0
    check = CHECKS["black_box_beats_white_box"]
    assert check.verdict(19 / 365, 19, 365) == ("warn", check.warn)  # 5.2 %, as of an undertrained network
    assert check.verdict(190 / 3650, 190, 3650) == ("warn", check.warn)
    assert check.verdict(240 / 3650, 240, 3650) == ("fail", check.fail)


def test_a_better_loss_flags_numbers_of_the_cross_entropy_alone():
    """Numbers behind which another loss was tried, or no gradient, keep the flags of all other checks."""
    flags = {("a", "linf"): ("margin_beats_cross_entropy", "zero_gradients")}
    both = ("margin_beats_cross_entropy", "zero_gradients")
    assert flags_for(flags, "a", "linf", {"cross_entropy"}) == both
    assert flags_for(flags, "a", "linf") == flags_for(flags, "a", "linf", set()) == both
    for losses in ({"margin"}, {"cross_entropy", "dlr"}, None):
        assert flags_for(flags, "a", "linf", losses) == ("zero_gradients",)
    row = {"flags": "margin_beats_cross_entropy"}
    assert footnotes([row]) == ["‡ another loss fools more: may be too high"]


def test_flags_are_the_failures_of_any_model_of_a_variant():
    """A failure in one norm flags that norm, one without a norm flags all, and a warning none."""
    rows = [
        measurement_table(found, experiment="e", variant=variant, seed=seed)
        for variant, seed, found in (
            ("a", 0, [share("more_steps", "linf", range(50), 100, "")]),
            (
                "a",
                1,
                [
                    share("more_steps", "linf", [], 100, ""),
                    share("zero_gradients", None, range(9), 100, ""),
                ],
            ),
            (
                "b",
                0,
                [
                    share("more_steps", "linf", range(7), 100, ""),
                    not_applicable("more_steps", "l2", ""),
                ],
            ),
        )
    ]
    table = add_verdicts(pa.concat_tables(rows))
    assert table.schema == DIAGNOSTICS_SCHEMA
    flags = collect_flags(table)
    assert flags_for(flags, "a", "linf") == ("zero_gradients", "more_steps")
    assert flags_for(flags, "a", "l2") == ("zero_gradients",)
    assert flags_for(flags, "b", "linf") == ()
    assert worst_verdict(["pass", "warn", "not_applicable"]) == "warn"


def test_an_unknown_check_is_refused():
    """A measurement of an unknown check is refused."""
    table = measurement_table([share("zero_gradientz", None, [], 10, "")], experiment="e", variant="v", seed=0)
    with pytest.raises(InputError, match=r"unknown check .zero_gradientz.*zero_gradients"):
        add_verdicts(table)


def test_a_flagged_number_carries_its_flag():
    """Tables and figures mark the number and explain the mark in a note."""
    row = {
        "variant": "ecc",
        "robust_accuracy": 0.5,
        "t_low": None,
        "t_high": None,
        "wilson_low": 0.4,
        "wilson_high": 0.6,
        "missing": 0,
        "errors": 0,
        "flags": "zero_gradients, more_steps",
    }
    assert percent(row).marks == "‡"
    assert footnote_marks([row]) == "‡"
    assert "masked" in " ".join(footnotes([row]))
    assert masked_variants([row, row]) == {"ecc": ["zero_gradients", "more_steps"]}
    assert percent(row | {"flags": ""}).marks == footnote_marks([row | {"flags": ""}]) == ""
