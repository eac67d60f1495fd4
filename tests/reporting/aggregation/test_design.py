"""The plan in the metadata of results: cells and titles."""

from __future__ import annotations

import copy
import subprocess
import sys

from gauntlet.config.loading import load
from gauntlet.config.yaml_file import read_yaml
from gauntlet.reporting.aggregation import design_from_config, design_from_metadata
from tests.support import ROOT
from tests.support.yaml_text import dump_yaml

DEFAULT = ROOT / "config.yaml"


def planned(tmp_path, edit):
    """Plan the default experiment with an edit."""
    config = copy.deepcopy(read_yaml(DEFAULT).content)
    edit(config["experiments"]["digits"])
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))
    return design_from_config("digits", load([file]).experiments["digits"])


def test_titles_headline_sources_and_repetitions_survive_the_metadata(tmp_path):
    """The plan read from a results file is the one written."""

    def edit(one):
        one["variants"]["ecc"]["title"] = "ECC"
        one["attacks"]["pgd"]["title"] = "PGD"
        one["attacks"]["pgd_again"] = {**one["attacks"]["pgd"], "seed": 1}
        one["certificates"]["lipschitz"]["title"] = "margin"
        one["headline"] = {"linf": [0.1]}

    plan = planned(tmp_path, edit)
    assert design_from_metadata(plan.metadata()) == plan
    assert (plan.titles, plan.headline) == ({"ecc": "ECC"}, {"linf": (0.1,)})
    of = {attack.name: attack for attack in plan.attacks}
    assert (of["pgd"].title, of["transfer"].sources) == ("PGD", ("softmax",))
    assert plan.certificates[0].title == "margin"


def test_attacks_that_differ_in_their_seed_only_are_repetitions(tmp_path):
    """Another option makes another attack, and a title does not."""

    def edit(one):
        pgd = one["attacks"]["pgd"]
        one["attacks"] |= {
            "again": {**pgd, "seed": 1, "title": "PGD, once more"},
            "longer": {**pgd, "seed": 2, "steps": 50},
        }

    repeats = {attack.name: attack.repeats for attack in planned(tmp_path, edit).attacks}
    assert repeats["pgd"] == repeats["again"] == "pgd"
    assert {name for name, first in repeats.items() if first} == {"pgd", "again"}


def test_queries_print_nothing():
    """DuckDB's progress bar is off, also in processes that it takes for interactive."""
    asked = "one.sql(\"SELECT current_setting('enable_progress_bar')\").fetchall()[0][0]"
    code = "from gauntlet.reporting.aggregation.queries import open_connection as opened\n"
    code += f"with opened() as one: print({asked})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_losses_are_those_of_options_and_registrations(tmp_path):
    """A norm whose attacks along gradients all ascend one loss is named, and none of the default experiment is."""
    plan = planned(tmp_path, lambda one: None)
    losses = {attack.name: attack.losses for attack in plan.attacks}
    assert losses["pgd"] == ("cross_entropy", "margin", "dlr")
    assert losses["adaptive"] == ("cross_entropy", "margin")
    assert losses["ddn"] == losses["fgsm"] == ("cross_entropy",)
    assert losses["spsa"] is losses["transfer"] is losses["noise"] is None
    assert plan.single_losses == {}

    def edit(one):
        one["attacks"]["pgd"]["loss"] = "cross_entropy"
        for name in ("adaptive", "autoattack", "pgd_l2"):
            del one["attacks"][name]

    assert planned(tmp_path, edit).single_losses == {"linf": "cross_entropy", "l2": "cross_entropy"}

    def unknown(one):
        edit(one)
        one["attacks"]["deepfool"] = {"name": "foolbox:L2DeepFoolAttack", "norm": "l2"}

    assert planned(tmp_path, unknown).single_losses == {"linf": "cross_entropy"}

    def own(one):
        edit(one)
        one["attacks"]["own"] = {"name": "tests.support.cheating_attacks:in_place", "norm": "linf", "epsilons": [0.1]}

    plan = planned(tmp_path, own)
    assert [attack.losses for attack in plan.attacks if attack.name == "own"] == [()]
    assert plan.single_losses == {"l2": "cross_entropy"}
