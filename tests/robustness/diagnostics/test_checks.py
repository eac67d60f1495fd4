"""Verdicts on hand-made rows: each comparison of attacks, each threshold, and the flags that numbers carry."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gauntlet.core.errors import InputError
from gauntlet.reporting.footnotes import flagged, flags_note
from gauntlet.reporting.formatting import masked_variants, percent
from gauntlet.robustness.diagnostics.attack_comparisons import ComparedAttack, compare_attacks
from gauntlet.robustness.diagnostics.checks import (
    CHECKS,
    DIAGNOSTICS_SCHEMA,
    add_verdicts,
    collect_flags,
    flags_for,
    worst_verdict,
)
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table

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
    """Make the rows of one attack: `fooled` maps samples to budgets, or lists those fooled at `at`."""
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
    return table.set_column(table.schema.get_field_index("epsilon"), "epsilon", table["epsilon"].cast(pa.float32()))


def verdicts(*tables):
    """Compare and judge: (check, norm) to row."""
    found = measurement_table(compare_attacks(tables), experiment="e", variant="v", seed=0)
    return {(row["check"], row["norm"]): row for row in add_verdicts(found).to_pylist()}


@pytest.mark.parametrize("check", PAIRS)
@pytest.mark.parametrize(
    ("extra", "verdict"), [(0, "pass"), (1, "pass"), (4, "warn"), (5, "warn"), (11, "fail")], ids=str
)
def test_shares_of_samples_that_the_wrong_attack_wins(check, extra, verdict):
    """One sample is chance; a few warn; many fail. What both attacks fool does not count."""
    if check == "adaptive_beats_stock" and extra == 5:
        verdict = "warn"
    found = verdicts((PAIRS[check], outcome(range(20 + extra))), (PGD, outcome(range(20))))[check, "linf"]
    assert (found["verdict"], found["value"]) == (verdict, pytest.approx(extra / SAMPLES))
    assert found["samples"] == list(range(20, 20 + extra))[:10]
    assert found["evidence"].startswith(f"{extra} of {SAMPLES} samples")
    assert PAIRS[check].name in found["evidence"]
    assert "pgd" in found["evidence"]


@pytest.mark.parametrize("check", PAIRS)
def test_a_tie_is_no_win(check):
    """The same budget on both sides, in float32 as rows hold it, is as it should be; so is a stronger gradient."""
    both = outcome(range(50))
    assert verdicts((PAIRS[check], both), (PGD, both))[check, "linf"]["value"] == 0
    assert verdicts((PAIRS[check], outcome(range(30))), (PGD, both))[check, "linf"]["verdict"] == "pass"


def test_budgets_are_compared_where_both_attacks_were_run():
    """A coarser grid of the iterative attack is no failure, nor is a budget that it was never given."""
    fine = ComparedAttack("fgsm", "linf", steps=1, epsilons=(0.05, 0.3))
    at_larger = verdicts((fine, outcome(range(40), at=0.05)), (PGD, outcome(range(40), at=0.1)))
    assert at_larger["one_step_beats_many", "linf"]["value"] == 0
    never_given = verdicts((fine, outcome(range(40), at=0.3)), (PGD, outcome([])))
    assert never_given["one_step_beats_many", "linf"]["value"] == 0
    too_late = verdicts((fine, outcome(range(40), at=0.05)), (PGD, outcome(range(40), at=0.2)))
    assert too_late["one_step_beats_many", "linf"]["value"] == 0.4


def test_a_minimum_norm_attack_answers_at_every_budget():
    """Its distance is held against the other's budget."""
    near = verdicts((FGSM, outcome(range(40))), (MINIMUM, outcome(range(40), at=0.07)))
    far = verdicts((FGSM, outcome(range(40))), (MINIMUM, outcome(range(40), at=0.15)))
    assert near["one_step_beats_many", "linf"]["verdict"] == "pass"
    assert far["one_step_beats_many", "linf"]["verdict"] == "fail"


def test_any_white_box_attack_redeems_the_others():
    """The best of them counts, sample by sample, not each by itself."""
    halves = [(PGD, outcome(range(20))), (MINIMUM, outcome(range(20, 40)))]
    assert verdicts((SPSA, outcome(range(40))), *halves)["black_box_beats_white_box", "linf"]["value"] == 0
    transferred = verdicts((TRANSFER, outcome(range(40))), halves[0])["black_box_beats_white_box", "linf"]
    assert transferred["value"] == 0.2


def test_samples_are_joined_by_content_and_only_correct_ones_count():
    """Another order changes nothing; misclassified samples are no denominator; errors are unknown on either side."""
    shuffled = outcome(range(40), order=list(reversed(range(SAMPLES))))
    found = verdicts((SPSA, shuffled), (PGD, outcome(range(30))))["black_box_beats_white_box", "linf"]
    assert (found["value"], found["samples"]) == (0.1, list(range(30, 40)))
    half_wrong = {"wrong": range(50, 100)}
    found = verdicts((SPSA, outcome(range(10), **half_wrong)), (PGD, outcome([], **half_wrong)))
    assert found["black_box_beats_white_box", "linf"]["value"] == 0.2
    found = verdicts((SPSA, outcome(range(10))), (PGD, outcome([], errors=range(10))))
    assert found["black_box_beats_white_box", "linf"]["value"] == 0


def test_norms_do_not_mix_and_a_lone_attack_is_not_applicable():
    """An attack in another norm is no rival."""
    other = ComparedAttack("pgd_l2", "l2", steps=40, epsilons=(1.0,))
    found = verdicts((SPSA, outcome(range(40))), (other, outcome([])))
    row = found["black_box_beats_white_box", "linf"]
    assert (row["verdict"], row["value"], row["threshold"]) == ("not_applicable", None, None)
    assert "no white-box attack" in row["evidence"]
    assert found["black_box_beats_white_box", "l2"]["verdict"] == "not_applicable"


def test_gradients_of_no_use_are_counted_where_evaluations_recorded_them():
    """Without the columns the checks do not apply."""
    bare = verdicts((PGD, outcome(range(3))))
    assert bare["zero_in_attacks", "linf"]["verdict"] == "not_applicable"
    told = verdicts((PGD, outcome([], nonfinite_gradients=[7], zero_gradients=range(20))))
    assert (told["nonfinite_in_attacks", "linf"]["verdict"], told["nonfinite_in_attacks", "linf"]["samples"]) == (
        "warn",
        [7],
    )
    assert told["zero_in_attacks", "linf"]["verdict"] == "fail"


def test_a_search_for_the_nearest_point_may_meet_gradients_of_zero():
    """Carlini-Wagner's loss is flat beyond the boundary, on any model; what is not finite counts there too."""
    searched = outcome([], nonfinite_gradients=[7], zero_gradients=range(20))
    told = verdicts((PGD, outcome(range(3), nonfinite_gradients=[], zero_gradients=[3])), (MINIMUM, searched))
    assert (told["zero_in_attacks", "linf"]["verdict"], told["zero_in_attacks", "linf"]["samples"]) == ("pass", [3])
    assert told["nonfinite_in_attacks", "linf"]["samples"] == [7]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_check_has_a_pass_a_warning_and_a_failure(check):
    """A value at a threshold is on its mild side; too few samples never fail; nothing measured is not applicable."""
    assert 0 <= check.warn < check.fail < 1
    assert check.question.endswith("?")
    assert check.verdict(check.warn, 100) == ("pass", check.warn)
    assert check.verdict(check.fail, 100) == ("warn", check.warn)
    assert check.verdict(1.0, 100) == ("fail", check.fail)
    assert check.verdict(1.0, check.min_samples - 1)[0] == "pass"
    assert check.verdict(None, 0) == ("not_applicable", None)


def test_flags_are_the_failures_of_any_model_of_a_variant():
    """A failure in one norm flags that norm; one without a norm flags all; a warning flags nothing."""
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
    """A measurement of another version is not judged in silence."""
    table = measurement_table([share("zero_gradientz", None, [], 10, "")], experiment="e", variant="v", seed=0)
    with pytest.raises(InputError, match=r"unknown check .zero_gradientz.*zero_gradients"):
        add_verdicts(table)


def test_a_flagged_number_carries_its_flag():
    """In tables and figures alike, with a note that says what it means."""
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
    assert percent(row).flags == "‡"
    assert flagged([row]) == "‡"
    assert "masked" in " ".join(flags_note([row]))
    assert masked_variants([row, row]) == {"ecc": ["zero_gradients", "more_steps"]}
    assert percent(row | {"flags": ""}).flags == flagged([row | {"flags": ""}]) == ""
