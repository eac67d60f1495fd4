"""The certify stage: smoothing certificates from configuration to tables, also after an interruption."""

from __future__ import annotations

import os
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.config.certificates import Certificate
from gauntlet.core.errors import GauntletError, InputError, Interrupted
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.aggregate import run as aggregate
from gauntlet.pipeline.stages.certify import run as certify
from gauntlet.pipeline.stages.diagnose import run as diagnose
from gauntlet.pipeline.stages.evaluate import run as evaluate
from gauntlet.pipeline.stages.prepare import run as prepare
from gauntlet.pipeline.stages.train import run as train
from gauntlet.robustness.certificates.lipschitz_constants import LipschitzConstants
from gauntlet.robustness.evaluation.partial_results import PartialResults
from tests.support.cells import make_cell
from tests.support.interruptible import temporary_files
from tests.support.stub_outputs import staleness_in, write_config

CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 60, "test": 30}},
            "seeds": [0],
            "training": {"epochs": 1},
            "variants": {"softmax": {"model": {"name": "cnn", "widths": [4, 4]}}},
            "attacks": {"noise": {"name": "gaussian_noise", "norm": "l2", "epsilons": [0.5, 4.0]}},
            "certificates": {"smooth": {"name": "smoothing", "sigma": 0.1, "n0": 20, "n": 60}},
        }
    },
    "execution": {"device": "cpu"},
}
SMOOTH = make_cell("certify", "tiny", "softmax", 0, "smooth")
STAGES = {
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "certify": certify,
    "diagnose": diagnose,
    "aggregate": aggregate,
}


def run(folder, *stages):
    """Run the cells of some stages."""
    for stage in stages:
        staleness = staleness_in(folder)
        for cell in [cell for cell in staleness.graph.cells() if cell.stage.name == stage]:
            STAGES[stage].run(staleness.job(cell))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a trained model, which is the current one."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    run(tmp_path, "prepare", "train")
    return tmp_path


def test_smoothed_certificates_are_in_the_tables(folder):
    """Any variant may have them, attacks on the model do not refute them, and tables name the classifier."""
    run(folder, "evaluate", "certify", "diagnose")
    rows = read_table(paths.samples(SMOOTH))
    assert set(rows["status"].to_pylist()) <= {"certified", "abstained", "already_wrong"}
    run(folder, "aggregate")
    assert not paths.counterexamples("tiny").exists()
    certified = read_table(paths.certified("tiny")).to_pylist()
    share = sum(status == "certified" for status in rows["status"].to_pylist()) / len(rows)
    assert (certified[0]["certifies"], certified[0]["certified_accuracy"]) == ("smoothed", pytest.approx(share))
    assert "Of the smoothed classifier" in paths.table("tiny", "md").read_text()
    assert staleness_in(folder).is_current(make_cell("aggregate", "tiny"))


def test_an_attack_on_the_model_refutes_no_smoothed_certificate(folder, monkeypatch):
    """The same rows would refute a certificate of the model."""
    run(folder, "evaluate", "certify", "diagnose")
    path = paths.samples(make_cell("evaluate", "tiny", "softmax", 0, "noise"))
    rows, made = read_table(path), read_metadata(path)
    near = {"status": ["adversarial"] * 30, "epsilon": [1e-9] * 30, "l2": [1e-9] * 30}
    for name, values in near.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))
    write_table(path, rows, made)
    assert "certified" in read_table(paths.samples(SMOOTH))["status"].to_pylist()
    run(folder, "aggregate")
    assert not paths.counterexamples("tiny").exists()
    monkeypatch.setattr(Certificate, "certifies", property(lambda self: "model"))
    with pytest.raises(GauntletError, match="certificates are refuted"):
        run(folder, "aggregate")


def test_a_stopped_certificate_resumes(folder, monkeypatch):
    """Finished parts are kept, and the next attempt ends with the same rows."""
    run(folder, "certify")
    whole = read_table(paths.samples(SMOOTH))
    paths.samples(SMOOTH).unlink()
    parts, asked = certify.certify_parts, []

    def watched(*given, ranges, **settings):
        asked.append(ranges)
        for number, rows in enumerate(parts(*given, ranges=ranges, **settings)):
            if len(asked) == 1 and number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield rows

    monkeypatch.setattr(certify, "certify_parts", watched)
    with pytest.raises(Interrupted, match="12 of 30 samples are kept"):
        run(folder, "certify")
    assert not paths.samples(SMOOTH).exists()
    run(folder, "certify")
    assert asked == [[(0, 30)], [(12, 30)]]
    assert read_table(paths.samples(SMOOTH)).equals(whole)
    assert temporary_files(paths.samples(SMOOTH).parent) == []


def test_a_killed_certificate_loses_seconds_of_work(folder, monkeypatch):
    """Finished parts are written every few seconds, with gaps."""
    run(folder, "certify")
    whole = read_table(paths.samples(SMOOTH))
    paths.samples(SMOOTH).unlink()
    monkeypatch.setattr(certify, "KEEP_EVERY_S", 0.0)
    save, kept = PartialResults.save, []

    def dies(self, part, **how):
        save(self, part, **how)
        kept.append((part.start, part.stop))
        if len(kept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(PartialResults, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "certify")
    assert kept == [(0, 4), (4, 8), (8, 12)]
    folders = list(paths.samples(SMOOTH).parent.glob(".partial-*"))
    next(folders[0].glob("part-*-000000008.parquet")).unlink()
    monkeypatch.setattr(certify, "KEEP_EVERY_S", 1e6)
    run(folder, "certify")
    assert read_table(paths.samples(SMOOTH)).equals(whole)
    assert pq.read_table(paths.samples(SMOOTH)).num_rows == 30


def lipschitz_config(model):
    """Return the experiment with one network, certified by its margin."""
    variant = {"model": model, "loss": "hkr", "training": {"optimizer": {"name": "adam", "lr": 0.01}}}
    margin = {"variants": {"softmax": variant}, "certificates": {"margin": {"name": "lipschitz"}}}
    return {"experiments": {"tiny": {**CONFIG["experiments"]["tiny"], **margin}}, "execution": {"device": "cpu"}}


MARGIN = make_cell("certify", "tiny", "softmax", 0, "margin")


@pytest.mark.parametrize("output", ["joint", "disjoint"])
def test_claimed_and_measured_constants_are_in_the_tables(tmp_path, monkeypatch, output):
    """They are in the certificate's file, certified.parquet and the text table."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, lipschitz_config({"name": "lipschitz_cnn", "widths": [4, 4], "hidden": 8, "output": output}))
    run(tmp_path, "prepare", "train", "evaluate", "certify", "diagnose", "aggregate")
    checked = LipschitzConstants.from_metadata(read_metadata(paths.samples(MARGIN)))
    assert 0.01 < checked.measured < checked.claimed
    rows = read_table(paths.certified("tiny")).to_pylist()
    assert {(row["lipschitz_claimed"], row["lipschitz_measured"]) for row in rows} == {
        (checked.claimed, checked.measured)
    }
    line = next(line for line in paths.table("tiny", "md").read_text().splitlines() if "claimed | measured" in line)
    assert line.endswith("Lipschitz constant claimed | measured |")
    assert staleness_in(tmp_path).is_current(make_cell("aggregate", "tiny"))


@pytest.mark.parametrize(
    ("network", "problem"), [("OverclaimingNetwork", "false claim"), ("UnprovenNetwork", "BatchNorm2d")]
)
def test_a_network_whose_claim_is_false_or_unproven_is_not_certified(tmp_path, monkeypatch, network, problem):
    """The error is one line, and neither rows nor parts are written."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, lipschitz_config(f"tests.support.cheating_certificates:{network}"))
    run(tmp_path, "prepare", "train")
    with pytest.raises(GauntletError, match=problem):
        run(tmp_path, "certify")
    assert not paths.samples(MARGIN).exists()
    assert not list(paths.samples(MARGIN).parent.glob(".partial-*/*.parquet"))


def test_a_certificate_that_no_network_can_have_is_refused_by_the_check(tmp_path, monkeypatch):
    """The error names the key before anything is trained."""
    monkeypatch.chdir(tmp_path)
    settings = {**CONFIG["experiments"]["tiny"], "certificates": {"margin": {"name": "lipschitz"}}}
    write_config(tmp_path, {"experiments": {"tiny": settings}})
    with pytest.raises(InputError, match=r"certificates\.margin.* no variant has a lipschitz network"):
        staleness_in(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [("n0", 0), ("n", 0), ("sigma", 0.0), ("sigma", -0.25), ("alpha", 0.0), ("alpha", 1.0), ("sigmas", 0.5)],
)
def test_impossible_settings_are_refused_by_the_check(tmp_path, monkeypatch, option, value):
    """The error names the key before anything runs."""
    monkeypatch.chdir(tmp_path)
    settings = {**CONFIG["experiments"]["tiny"], "certificates": {"smooth": {"name": "smoothing", option: value}}}
    write_config(tmp_path, {"experiments": {"tiny": settings}})
    with pytest.raises(InputError, match=rf"certificates\.smooth\.{option}"):
        staleness_in(tmp_path)
