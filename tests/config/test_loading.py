"""Loading of configurations: every mistake is reported in one line with its place and remedy."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from gauntlet.config.loading import load
from gauntlet.config.yaml_file import read_yaml
from gauntlet.core.errors import InputError
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.staleness import Staleness
from gauntlet.registry import SOURCES
from gauntlet.reporting.aggregation import design_from_config
from tests.support import ROOT
from tests.support.yaml_text import dump_yaml

DEFAULT = ROOT / "config.yaml"


def edited(tmp_path, path, value, *, remove=False):
    """Write the default configuration with one value changed; return its path."""
    config = copy.deepcopy(read_yaml(DEFAULT).content)
    place = config
    *parents, last = path
    for key in parents:
        place = place[key]
    if remove:
        del place[last]
    else:
        place[last] = value
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))
    return file


D = ("experiments", "digits")
WRONG = [
    ((*D, "attacks", "spsa", "surrogate"), "adaptive", "spsa.surrogate: spsa takes no gradients"),
    ((*D, "attacks", "ddn", "units"), "normalized", "ddn.units: foolbox:DDNAttack takes no budgets"),
    ((*D, "attacks", "pgd", "units"), "normal", "pgd.units: expected 'pixels' or 'normalized'"),
    (
        (*D, "attacks", "dots"),
        {"name": "salt_and_pepper_noise", "epsilons": [2], "units": "normalized"},
        "dots.units: an l0 budget is a number of values, and has no units",
    ),
    ((*D, "variants", "ecc", "model", "head"), {"name": "ecc", "length": 12}, "head.length: expected a power of two"),
    ((*D, "variants", "ecc", "model", "head"), {"name": "ecc", "length": 1}, "head.length: expected a power of two"),
    (
        (*D, "variants", "ecc", "model", "head"),
        {"name": "ecc", "length": 8},
        "length: a code of 8 bits has no word for",
    ),
    (
        (*D, "training", "optimizer"),
        {"name": "sgd", "momentum": 0, "nesterov": True},
        "optimizer.nesterov: nesterov needs",
    ),
    (
        (*D, "variants", "softmax", "training"),
        {"epochs": 3, "schedule": {"name": "step", "milestones": [2, 3]}},
        "training.schedule.milestones: milestone 3 has no effect",
    ),
    (
        (*D, "variants", "softmax"),
        {
            "model": {"name": "cnn", "head": "sigmoid"},
            "loss": "sigmoid_bce",
            "training": {"negatives": {"name": "scrambling", "pixels": False, "blocks": []}},
        },
        "training.negatives: there is nothing to scramble",
    ),
    ((*D, "variants", "ecc", "model", "head"), "hadamard_code", "ecc.loss: hinge needs an output of codes"),
    ((*D, "attacks", "pgd", "transfer_from"), ["ecc", "ecc"], "pgd.transfer_from: a variant is given twice"),
    ((*D, "attacks", "dots"), {"name": "salt_and_pepper_noise", "epsilons": [0.5]}, "dots.epsilons: an l0 budget is"),
    ((*D, "attacks", "pgd", "transfer_from"), "ec", "attacks.pgd.transfer_from: no variant 'ec'; did you mean 'ecc'"),
    ((*D, "attacks", "pgd", "transfer_from"), [], "attacks.pgd.transfer_from: expected 1 item or more"),
    ((*D, "attacks", "ddn", "transfer_from"), "ecc", "ddn.transfer_from: foolbox:DDNAttack stops at the decision b"),
    ((*D, "attacks", "pgd", "draws"), 0, "attacks.pgd.draws: expected a number above 0"),
    (("experimentz",), {}, "experimentz: unknown key; did you mean 'experiments'"),
    (("execution",), {"devise": "cpu"}, "execution.devise: unknown key; did you mean 'device'"),
    (("execution",), {"device": "gpu"}, "execution.device"),
    (("execution",), {"scratch": "atuo"}, "execution.scratch"),
    ((*D, "sedes"), [1], "experiments.digits.sedes: unknown key; did you mean 'seeds'"),
    ((*D, "seeds"), "0", "experiments.digits.seeds"),
    ((*D, "seeds"), [0, -1], "experiments.digits.seeds.1: expected 0 or more"),
    ((*D, "seeds"), [1, 1], "experiments.digits.seeds: a seed is given twice"),
    ((*D, "seeds"), [], "experiments.digits.seeds"),
    ((*D, "dataset", "source"), "sklearn_digit", "dataset.source: unknown data source 'sklearn_digit'; did you mean"),
    ((*D, "dataset", "validaton"), 0.1, "dataset.validaton: unknown key; did you mean 'validation'"),
    ((*D, "dataset", "validation"), 1.5, "dataset.validation"),
    ((*D, "training", "epoch"), 3, "training.epoch: unknown key; did you mean 'epochs'"),
    ((*D, "training", "epochs"), 2.5, "training.epochs: expected an integer, got 2.5"),
    ((*D, "training", "optimizer"), "adm", "training.optimizer.name: unknown optimizer 'adm'; did you mean 'adam'"),
    ((*D, "training", "optimizer", "lr"), float("nan"), "training.optimizer.lr: expected a finite number"),
    ((*D, "training", "optimizer", "lr"), -1.0, "training.optimizer.lr: expected a number above 0"),
    ((*D, "training", "optimizer", "rl"), 0.1, "training.optimizer.rl: unknown key; known: amsgrad, lr"),
    ((*D, "variants", "softmax", "modle"), "cnn", "variants.softmax.modle: unknown key; did you mean 'model'"),
    ((*D, "variants", "softmax", "model", "name"), "cnm", "variants.softmax.model.name: unknown model 'cnm'; did you"),
    (
        (*D, "variants", "softmax", "model", "width"),
        [1],
        "variants.softmax.model.width: unknown key; did you mean 'widths'",
    ),
    ((*D, "variants", "softmax", "model", "head"), "softmx", "variants.softmax.model.head.name: unknown head 'softmx'"),
    (
        (*D, "variants", "hydra_ecc", "model", "head", "heads"),
        "4",
        "model.head.heads: expected an integer, got",
    ),
    ((*D, "variants", "softmax", "loss"), "hinge", "variants.softmax.loss: hinge needs an output of codes"),
    (
        (*D, "variants", "lipschitz", "model", "head"),
        "ecc",
        "lipschitz.model.head: lipschitz_cnn has an output of its own",
    ),
    (
        (*D, "variants", "softmax", "training"),
        {"epochs": 0},
        "variants.softmax.training.epochs: expected a number above 0",
    ),
    ((*D, "variants", "softmax", "training"), {"lr": 0.1}, "variants.softmax.training.lr: unknown key"),
    ((*D, "variants", "softmax", "training"), {"epochs": None}, "softmax.training.epochs: expected an integer"),
    ((*D, "variants", "softmax", "training"), {"optimizer": None}, "softmax.training.optimizer: expected a name or"),
    (
        (*D, "variants", "ecc", "training"),
        {"adversary": {"name": "trades", "epsilon": 0.1}},
        "ecc.training.adversary: trades compares the probabilities of softmax and needs the loss cross_entropy",
    ),
    (
        (*D, "variants", "ecc", "training"),
        {"validation_adversary": {"name": "trades", "epsilon": 0.1}},
        "ecc.training.validation_adversary: trades compares the probabilities of softmax",
    ),
    ((*D, "training", "validation_adversary"), "fgsm", "training.validation_adversary.epsilon: this key is required"),
    (
        (*D, "training", "validation_adversary"),
        {"name": "fgsm", "epsilon": 8.0},
        "training.validation_adversary.epsilon: pixels are in [0, 1]",
    ),
    (
        (*D, "variants", "lipschitz", "training", "adversary"),
        {"name": "trades", "epsilon": 0.1},
        "variants.lipschitz.training.adversary: trades compares",
    ),
    (
        (*D, "training", "adversary"),
        {"name": "pgd", "epsilon": 8.0},
        "experiments.digits.training.adversary.epsilon: pixels are in [0, 1], so a linf budget is at most 1",
    ),
    ((*D, "training", "adversary"), "pgd", "training.adversary.epsilon: this key is required"),
    (
        (*D, "variants", "softmax", "training"),
        {"negatives": "overlay"},
        "softmax.training.negatives: a negative is an image of no class, and only a loss of sigmoid outputs has a "
        "target for it; cross_entropy is a loss of logits",
    ),
    (
        (*D, "variants", "hydra_ecc", "training"),
        {"negatives": {"name": "scrambling", "blocks": [3]}},
        "hydra_ecc.training.negatives: a negative is an image of no class",
    ),
    (
        (*D, "training", "negatives"),
        "overly",
        "training.negatives.name: unknown negative 'overly'; did you mean 'overl",
    ),
    (
        (*D, "variants", "softmax", "training"),
        {"epochs": 5, "regularizers": ["l2", {"name": "max_fit", "start_epoch": 6}]},
        "softmax.training.regularizers.1.start_epoch: max_fit begins in epoch 6, training ends after 5",
    ),
    (
        (*D, "training", "regularizers"),
        [{"name": "l1", "strength": -1.0}],
        "training.regularizers.0.strength: expected",
    ),
    ((*D, "training", "schedule"), "cosin", "training.schedule.name: unknown schedule 'cosin'; did you mean 'cosine'"),
    ((*D, "training", "schedule"), "step", "training.schedule.milestones: this key is required"),
    ((*D, "training", "recovery"), {"treshold": 0.5}, "recovery.treshold: unknown key; did you mean 'threshold'"),
    ((*D, "training", "recovery"), {"threshold": 2.0}, "recovery.threshold: expected 1 or less"),
    ((*D, "training", "adversary"), "pdg", "training.adversary.name: unknown adversary 'pdg'; did you mean 'pgd'"),
    (
        (*D, "variants", "softmax", "training"),
        {"adversary": {"name": "pgd", "epsilon": 0.1, "norm": "l1"}},
        "variants.softmax.training.adversary.norm",
    ),
    ((*D, "attacks", "pgd", "samples"), 0, "digits.attacks.pgd.samples: expected a number above 0"),
    ((*D, "headline"), {"linf": [0.15]}, "digits.headline.linf: no attack is run at 0.15; there are 0.01, 0.03, 0.1"),
    ((*D, "headline"), {"l1": [3.0]}, "digits.headline.l1: there is no attack and no certificate in l1"),
    ((*D, "headline"), {"linf": []}, "digits.headline.linf"),
    ((*D, "headline"), {"lnf": [0.1]}, "digits.headline.lnf: unknown key 'lnf'; there are 'l0', 'l1', 'l2' or 'linf'"),
    (
        (*D, "variants", "hydra-ecc"),
        {"model": "cnn"},
        "digits.variants.hydra-ecc: it has the LaTeX macros of 'hydra_ecc'; names must differ in more",
    ),
    ((*D, "variants", "ecc", "title"), "two\nlines", "variants.ecc.title"),
    ((*D, "attacks", "pgd", "title"), "", "attacks.pgd.title"),
    ((*D, "variants", "../evil"), {"model": "cnn"}, "variants.../evil: the name '../evil' is refused"),
    ((*D, "variants", "a;rm -rf"), {"model": "cnn"}, "the name 'a;rm -rf' is refused"),
    ((*D, "variants", "A"), {"model": "cnn"}, "the name 'A' is refused"),
    ((*D, "certificates"), {8: {"name": "lipschitz"}}, "certificates.8: the name 8 is read as a number; put it in"),
    ((*D, "attacks", "pgd", "stepz"), 3, "attacks.pgd.stepz: unknown key; did you mean 'steps'"),
    ((*D, "attacks", "pgd", "steps"), "40", "attacks.pgd.steps: expected an integer, got '40'"),
    ((*D, "attacks", "pgd", "epsilons"), [0.1, -0.1], "attacks.pgd.epsilons.1: expected a number above 0"),
    ((*D, "attacks", "pgd", "epsilons"), [float("nan")], "attacks.pgd.epsilons.0: expected a finite number"),
    ((*D, "attacks", "pgd", "epsilons"), [0.2, 0.1], "attacks.pgd.epsilons: the budgets must ascend"),
    ((*D, "attacks", "pgd", "norm"), "l0", "attacks.pgd.norm: pgd does not work in 'l0'; it works in linf, l2"),
    ((*D, "attacks", "pgd", "norm"), "L2", "attacks.pgd.norm: pgd does not work in 'L2'; it works in linf, l2"),
    ((*D, "attacks", "ddn", "epsilons"), [0.1], "attacks.ddn.epsilons: foolbox:DDNAttack finds the smallest"),
    ((*D, "attacks", "ddn", "name"), "foolbox:DDNAttak", "did you mean 'DDNAttack'"),
    ((*D, "attacks", "ddn", "init_epsilo"), 3.0, "attacks.ddn.init_epsilo: unknown key; did you mean 'init_epsilon'"),
    (
        (*D, "attacks", "ddn", "norm"),
        "linf",
        "attacks.ddn.norm: foolbox:DDNAttack does not work in 'linf'; it works in l2",
    ),
    (
        (*D, "variants", "ecc", "model"),
        {"name": "cnnn", "head": "ecc"},
        "ecc.model.name: unknown model 'cnnn'; did you mean",
    ),
    ((*D, "variants", "ecc", "model"), {"head": "ecc"}, "ecc.model: 'name' is missing; models: cnn, lenet"),
    ((*D, "attacks", "pgd", "name"), "no_module:Attack", "attacks.pgd.name: attack 'no_module:Attack': no module"),
    ((*D, "attacks", "pgd", "name"), "os.path; rm", "attacks.pgd.name: unknown attack 'os.path; rm'"),
    ((*D, "attacks", "pgd", "name"), 7, "attacks.pgd.name: expected a name, got 7"),
    ((*D, "attacks", "pgd"), None, "attacks.pgd: expected a name or a mapping with 'name', got nothing"),
    (
        (*D, "attacks", "lipschitz"),
        {"name": "fgsm", "norm": "linf", "epsilons": [0.1]},
        "certificates.lipschitz: an attack",
    ),
    ((*D, "certificates", "lipschitz", "name"), "lipshitz", "certificates.lipschitz.name: unknown certificate"),
    ((*D, "samples"), 0, "experiments.digits.samples: expected a number above 0"),
    (
        (*D, "attacks", "pgd", "surrogate"),
        "nope",
        "attacks.pgd.surrogate: no variant that it sees offers 'nope'; known: adaptive, code_bits, logits",
    ),
    (
        (*D, "attacks", "pgd"),
        {"name": "pgd", "norm": "linf", "epsilons": [0.1], "transfer_from": "softmax", "surrogate": "code_bits"},
        "attacks.pgd.surrogate: no variant that it sees offers 'code_bits'; known: adaptive, logits",
    ),
    (
        (*D, "attacks", "spsa"),
        {"name": "spsa", "norm": "linf", "steps": 9, "step_size": 0.01, "epsilons": [0.05, 0.1]},
        "attacks.spsa.steps: spsa cannot reach 0.1 in 9 steps of 0.01; raise steps or step_size until",
    ),
    (
        (*D, "attacks", "ink"),
        {"name": "jsma", "theta": 0},
        "attacks.ink.theta: should not be 0, which changes nothing; choose a number above or below it",
    ),
    (
        (*D, "attacks", "auto"),
        {"name": "autoattack", "norm": "linf", "version": "rand", "epsilons": [0.1]},
        "attacks.auto.draws: version rand is for random models, whose noise one pass does not average",
    ),
    (
        (*D, "attacks", "pgd", "targets"),
        10,
        "attacks.pgd.targets: 10 of 10 classes cannot be targets: one is the image's own, which leaves 9",
    ),
    (
        (*D, "attacks", "pgd", "step_size"),
        0.65,
        "attacks.pgd.step_size: a step of 0.65 crosses the whole ball of the largest budget, 0.3; choose 0.6 or less",
    ),
    (
        (*D, "variants", "softmax", "training"),
        {"adversary": {"name": "fgsm", "epsilon": 0.1, "step_size": 0.3}},
        "softmax.training.adversary.step_size: a step of 0.3 crosses the whole ball",
    ),
    (
        (*D, "attacks", "dots"),
        {"name": "salt_and_pepper_noise", "epsilons": [64, 65]},
        "attacks.dots.epsilons: 65 is above the largest l0 distance of images of 1x8x8, 64",
    ),
    (
        (*D, "attacks", "wide"),
        {"name": "pgd", "norm": "l2", "epsilons": [8.1]},
        "attacks.wide.epsilons: 8.1 is above the largest l2 distance of images of 1x8x8, 8",
    ),
    (
        (*D, "variants", "softmax", "normalize"),
        {"mean": [0.4, 0.5, 0.4], "std": 0.2},
        "softmax.normalize.mean: the images have 1 channel, so expected one number, got 3",
    ),
    (
        (*D, "variants", "ecc", "title"),
        "softmax",
        "ecc.title: 'softmax' has the title 'softmax' too, which figures and tables could not distinguish; choose",
    ),
    (
        (*D, "attacks", "other"),
        {"name": "pgd", "norm": "linf", "epsilons": [0.1], "title": "pgd", "loss": "dlr"},
        "attacks.other.title: 'pgd' has the title 'pgd' too, which figures and tables could not distinguish; choose",
    ),
    ((*D, "headline"), {"linf": [0.1, 0.10001]}, "headline.linf.1: the budget 0.10001 is given twice; leave one"),
    ((*D, "seeds"), "1_0", "digits.seeds: expected 1 to 10000 seeds, or a list of them, got '1_0'"),
    ((*D, "show"), [3], "show.0: expected the name of a variant, or a condition such as {axis: level}, got 3"),
    (
        (*D, "certificates", "smooth"),
        {"name": "smoothing", "n": 9},
        "certificates.smooth.n: 9 copies can certify nothing at alpha 0.001, even when all agree; 10 is the least",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[message[:60] for _, _, message in WRONG])
def test_a_mistake_is_reported_with_its_place_and_remedy(tmp_path, path, value, message):
    """Each mistake is one line with file, line, key, and the expected value or nearest valid name."""
    file = edited(tmp_path, path, value)
    with pytest.raises(InputError) as caught:
        load([file])
    lines = str(caught.value).splitlines()
    assert any(message in line for line in lines), lines
    assert all(line.startswith(str(file)) for line in lines)
    assert len(lines) <= 3, lines
    assert caught.value.exit_code == 2


def small(tmp_path, **keys):
    """Write a configuration of one experiment with one network, or these keys; return its file."""
    file = tmp_path / "small.yaml"
    settings = {"dataset": {"source": "sklearn_digits"}, "variants": {"cnn": {"model": "cnn"}}, **keys}
    file.write_text(dump_yaml({"experiments": {"e": settings}}))
    return file


@pytest.mark.parametrize("written", [0.0314, 0.031372549])
def test_budgets_and_steps_may_be_rounded(tmp_path, written):
    """8/255 is written with any number of digits, in `headline` as in `published`; 16/255 is its ball's diameter."""
    attack = {"name": "pgd", "norm": "linf", "epsilons": [8 / 255], "step_size": 2 * written}
    published = {"reference": "A paper", "numbers": {"cnn": {f"pgd@{written}": 40}}}
    load([small(tmp_path, attacks={"pgd": attack}, headline={"linf": [written]}, published=published)])
    with pytest.raises(InputError, match=r"headline\.linf: no attack is run at 0\.0318; there are 0\.0313725"):
        load([small(tmp_path, attacks={"pgd": attack}, headline={"linf": [0.0318]})])


def test_macros_of_a_variant_and_a_column_differ_too(tmp_path):
    """The macro of `a` with `b_c` is that of `a_b` with `c`; the table would be refused after all trainings."""
    attack = {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}
    variants = {"cnn": {"model": "cnn"}, "cnn_wide": {"model": "cnn"}}
    attacks = {"pgd": attack, "wide_pgd": {**attack, "loss": "margin"}}
    problem = "variants.cnn_wide: variant 'cnn_wide' with 'pgd' has the LaTeX macro of variant 'cnn' with 'wide_pgd'"
    with pytest.raises(InputError, match=problem):
        load([small(tmp_path, variants=variants, attacks=attacks)])
    attacks["wide_pgd"]["norm"] = "l2"
    load([small(tmp_path, variants=variants, attacks=attacks)])
    certificates = {"smooth_1": {"name": "smoothing"}, "smooth-1": {"name": "smoothing", "sigma": 1}}
    with pytest.raises(InputError, match=r"certificates\.smooth-1: it has the LaTeX macros of 'smooth_1'"):
        load([small(tmp_path, certificates=certificates)])


def test_attacks_that_differ_in_their_seed_may_have_one_title(tmp_path):
    """They are one column; attacks of different norms are in different groups of columns."""
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.1], "title": "PGD"}
    load([small(tmp_path, attacks={"a": attack, "b": {**attack, "seed": 1}, "c": {**attack, "norm": "l2"}})])


@pytest.mark.parametrize("first", ["", "[]", "3"])
def test_experiments_that_are_no_mapping_are_reported_with_several_files(tmp_path, first):
    """The key of either file is named, whichever is read first."""
    broken, whole = tmp_path / "broken.yaml", small(tmp_path)
    broken.write_text(f"experiments: {first}\n")
    with pytest.raises(InputError, match=r"small\.yaml:1:1: experiments: this key is also at .*broken\.yaml:1:1"):
        load([broken, whole])
    with pytest.raises(InputError, match=r"broken\.yaml:1:1: experiments: expected a mapping, got"):
        load([whole, broken])


def test_a_mistake_in_a_transfer_is_at_its_own_attack(tmp_path):
    """The name of one attack may begin with that of another."""
    attack = {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}
    attacks = {"a": attack, "a_from_b": {**attack, "transfer_from": "*", "stepz": 1}}
    with pytest.raises(InputError, match=r"attacks\.a_from_b\.stepz: unknown key"):
        load([small(tmp_path, variants={"b": {"model": "cnn"}, "c": {"model": "cnn"}}, attacks=attacks)])


def test_an_attack_on_more_samples_than_the_experiment_is_refused(tmp_path):
    """The line has the key and the numbers that would be right."""
    file = tmp_path / "config.yaml"
    config = copy.deepcopy(read_yaml(DEFAULT).content)
    experiment = config["experiments"]["digits"]
    experiment |= {"samples": 40, "quick": None}
    experiment["attacks"]["pgd"]["samples"] = 41
    file.write_text(dump_yaml(config))
    with pytest.raises(InputError) as caught:
        load([file])
    problem = "attacks.pgd.samples: 41 is more than the experiment's `samples`, 40; choose at most 40, or leave it out"
    assert problem in str(caught.value)


@pytest.mark.parametrize("own", [None, 40])
def test_as_many_samples_as_the_experiment_are_no_part(tmp_path, own):
    """The recipe and the design are those without the key; fewer samples are stated in both."""
    slices, designs = [], []
    for samples in (None, own, 39):
        file = tmp_path / "config.yaml"
        config = copy.deepcopy(read_yaml(DEFAULT).content)
        config["experiments"]["digits"] |= {"samples": 40, "quick": None}
        config["experiments"]["digits"]["attacks"]["pgd"] |= {} if samples is None else {"samples": samples}
        file.write_text(dump_yaml(config))
        experiment = load([file]).experiments["digits"]
        staleness = Staleness(Graph(load([file])))
        cells = [cell for cell in staleness.graph.cells() if (cell.stage.name, cell.name) == ("evaluate", "pgd")]
        slices.append([staleness.outline(cell).slice for cell in cells])
        designs.append(next(one for one in design_from_config("digits", experiment).attacks if one.name == "pgd"))
    assert slices[0] == slices[1] != slices[2]
    assert {one["samples"] for one in slices[2]} == {39}
    assert all("samples" not in one["attack"] for one in slices[2])
    assert designs[0] == designs[1] == replace(designs[2], samples=None, counts=True)
    assert (designs[2].samples, designs[2].counts) == (39, False)


RIGHT = [
    ((*D, "attacks", "pgd", "samples"), 20),
    ((*D, "attacks", "pgd", "surrogate"), "code_bits"),
    ((*D, "attacks", "pgd", "surrogate"), "logits"),
    ((*D, "attacks", "pgd", "surrogate"), "adaptive"),
    ((*D, "attacks", "spsa"), {"name": "spsa", "norm": "linf", "steps": 10, "step_size": 0.01, "epsilons": [0.1]}),
    ((*D, "attacks", "spsa"), {"name": "spsa", "norm": "l2", "steps": 1, "step_size": 0.01, "epsilons": [2.0]}),
    ((*D, "attacks", "ink"), {"name": "jsma", "theta": -1}),
    ((*D, "attacks", "auto"), {"name": "autoattack", "norm": "linf", "version": "rand", "draws": 2, "epsilons": [0.1]}),
    ((*D, "attacks", "pgd", "targets"), 9),
    ((*D, "attacks", "pgd", "step_size"), 0.6),
    ((*D, "attacks", "pgd"), {"name": "pgd", "norm": "linf", "units": "normalized", "epsilons": [0.1], "step_size": 1}),
    ((*D, "attacks", "dots"), {"name": "salt_and_pepper_noise", "epsilons": [64]}),
    ((*D, "attacks", "wide"), {"name": "pgd", "norm": "l2", "epsilons": [8.0]}),
    ((*D, "variants", "softmax", "normalize"), {"mean": [0.4], "std": 0.2}),
    ((*D, "variants", "ecc", "title"), "Softmax"),
    ((*D, "certificates", "smooth"), {"name": "smoothing", "n": 10}),
]


@pytest.mark.parametrize(("path", "value"), RIGHT, ids=str)
def test_values_just_inside_the_limits_are_accepted(tmp_path, path, value):
    """Values next to those refused above are accepted."""
    load([edited(tmp_path, path, value)])


@pytest.mark.parametrize(
    ("dataset", "accepted"),
    [
        ({"source": "torchvision", "name": "MNIST"}, 9),
        ({"source": "torchvision", "name": "CIFAR100"}, 99),
        ({"source": "torchvision", "name": "EMNIST", "subset": "letters"}, 10_000),
        ({"source": "imagefolder", "root": "images"}, 10_000),
    ],
)
def test_the_number_of_targets_is_checked_against_the_number_of_classes(tmp_path, dataset, accepted):
    """Too many targets are refused if the source declares its number of classes."""
    file = edited(tmp_path, (*D, "dataset"), dataset)
    config = read_yaml(file).content

    def with_targets(number):
        config["experiments"]["digits"]["attacks"]["pgd"]["targets"] = number
        file.write_text(dump_yaml(config))
        return load([file])

    assert with_targets(accepted)
    if accepted < 10_000:
        with pytest.raises(InputError, match=rf"targets: {accepted + 1} of {accepted + 1} classes cannot be targets"):
            with_targets(accepted + 1)


def test_a_default_number_of_targets_is_no_mistake(tmp_path, monkeypatch):
    """A default number of targets is reduced to the number of classes, not refused."""
    digits = SOURCES.catalog["sklearn_digits"]
    two = replace(digits, tags={**digits.tags, "classes": 4})
    monkeypatch.setitem(SOURCES.__dict__, "catalog", {**SOURCES.catalog, "sklearn_digits": two})
    load([edited(tmp_path, (*D, "attacks", "fab"), {"name": "fab", "norm": "linf"})])
    with pytest.raises(InputError, match=r"attacks\.fab\.targets: 8 of 4 classes"):
        load([edited(tmp_path, (*D, "attacks", "fab"), {"name": "fab", "norm": "linf", "targets": 8})])


def test_surrogates_of_a_user_network_are_checked_if_declared(tmp_path, monkeypatch):
    """A network without declared surrogates may offer any; a registered one is limited to those declared."""
    attacks = {"a": {"name": "pgd", "norm": "linf", "epsilons": [0.1], "surrogate": "early"}}
    text = "import torch\nfrom gauntlet.registry import MODELS\n{}class Mine(torch.nn.Module):\n    pass\n"
    monkeypatch.syspath_prepend(tmp_path)
    for module, decorator in (("mute", ""), ("declared", '@MODELS.register("x", surrogates=("late",))\n')):
        (tmp_path / f"{module}_surrogates.py").write_text(text.format(decorator))
        own = {"dataset": {"source": "sklearn_digits"}, "variants": {"v": {"model": f"{module}_surrogates:Mine"}}}
        file = tmp_path / "config.yaml"
        file.write_text(dump_yaml({"experiments": {"e": {**own, "attacks": attacks}}}))
        if module == "mute":
            load([file])
        else:
            with pytest.raises(InputError, match=r"a\.surrogate: .* offers 'early'; known: adaptive, late, logits"):
                load([file])


@pytest.mark.parametrize(
    "path",
    [(*D, "dataset"), (*D, "variants"), (*D, "dataset", "source"), (*D, "attacks", "pgd", "name"), ("experiments",)],
)
def test_a_missing_required_key_is_named(tmp_path, path):
    """A missing required key is reported with its path."""
    with pytest.raises(InputError, match=r"required|is missing"):
        load([edited(tmp_path, path, None, remove=True)])


def test_all_mistakes_are_reported_at_once(tmp_path):
    """One error lists every mistake of a file."""
    config = read_yaml(DEFAULT).content
    experiment = config["experiments"]["digits"]
    experiment["sedes"] = 1
    experiment["attacks"]["pgd"] |= {"stepz": 1, "restarts": "many"}
    experiment["variants"]["ecc"]["model"]["head"] = "eccc"
    experiment["training"]["epochs"] = -1
    file = tmp_path / "c.yaml"
    file.write_text(dump_yaml(config))
    with pytest.raises(InputError) as caught:
        load([file])
    message = str(caught.value)
    for part in ("digits.sedes", "pgd.stepz", "pgd.restarts", "ecc.model.head", "training.epochs"):
        assert part in message


def test_several_files_are_one_configuration(tmp_path):
    """Experiments of several files are joined; a name in two files is refused with both files."""
    (tmp_path / "a.yaml").write_text(DEFAULT.read_text())
    (tmp_path / "b.yaml").write_text(DEFAULT.read_text().replace("  digits:", "  others:"))
    assert list(load([tmp_path / "a.yaml", tmp_path / "b.yaml"]).experiments) == ["digits", "others"]
    (tmp_path / "b.yaml").write_text(DEFAULT.read_text())
    message = r"b\.yaml:\d+:3: experiments\.digits: this key is also at .*a\.yaml:\d+:3: experiments\.digits; rename"
    with pytest.raises(InputError, match=message):
        load([tmp_path / "a.yaml", tmp_path / "b.yaml"])


def test_defaults_and_their_explicit_values_are_the_same_slice(tmp_path):
    """A default that is written out changes no configuration slice."""
    plain = load([DEFAULT]).experiments["digits"]
    file = edited(tmp_path, (*D, "attacks", "pgd", "restarts"), 1)
    assert load([file]).experiments["digits"].attacks["pgd"].as_dict() == plain.attacks["pgd"].as_dict()


def test_a_variants_training_changes_its_own_keys_only(tmp_path):
    """A variant's `training` keeps the experiment's other keys."""
    file = edited(tmp_path, (*D, "variants", "ecc", "training"), {"epochs": 7})
    experiment = load([file]).experiments["digits"]
    assert experiment.training_of("ecc").epochs == 7
    assert experiment.training_of("ecc").batch_size == experiment.training.batch_size
    assert experiment.training_of("softmax") == experiment.training


def test_a_variant_can_turn_the_experiments_adversary_off(tmp_path):
    """`adversary: null` of a variant means no adversary, not the experiment's."""
    config = read_yaml(edited(tmp_path, (*D, "training", "adversary"), {"name": "pgd", "epsilon": 0.1})).content
    config["experiments"]["digits"]["variants"]["ecc"]["training"] = {"adversary": None}
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))
    experiment = load([file]).experiments["digits"]
    assert experiment.training_of("ecc").as_dict()["adversary"] is None
    filled = {"name": "pgd", "epsilon": 0.1, "norm": "linf", "steps": 10, "step_size": None, "warmup_epochs": 0}
    assert experiment.training_of("softmax").as_dict()["adversary"] == {**filled, "random_start": True}


def test_the_slice_holds_all_training_settings(tmp_path):
    """Components are in the slice with all options; a schedule given by name stays a name."""
    training = {
        "epochs": 20,
        "schedule": {"name": "step", "milestones": [10, 15]},
        "warmup_epochs": 2,
        "regularizers": ["l2", {"name": "max_fit", "start_epoch": 2}],
        "augmentation": ["rotation"],
        "recovery": {"frozen_epochs": 3},
    }
    config = read_yaml(edited(tmp_path, (*D, "training"), training)).content
    config["experiments"]["digits"]["variants"]["ecc"]["training"] = {"schedule": "cosine", "recovery": None}
    config["experiments"]["digits"]["variants"]["softmax"] |= {
        "model": "tests.support.user_networks:Plain",
        "loss": "tests.support.interruptible:squared_error",
        "training": {"negatives": {"name": "overlay", "start_epoch": 20}},
    }
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))
    experiment = load([file]).experiments["digits"]
    plain = experiment.training_of("lipschitz").as_dict()
    assert plain["schedule"] == {"name": "step", "milestones": [10, 15], "factor": 0.1}
    assert plain["warmup_epochs"] == 2
    assert plain["regularizers"] == [
        {"name": "l2", "strength": 1e-4, "start_epoch": 1},
        {"name": "max_fit", "l1": 0.01, "l2": 0.0, "bias": 0.01, "start_epoch": 2},
    ]
    assert plain["augmentation"] == [{"name": "rotation", "degrees": 10.0}]
    assert plain["recovery"] == {"threshold": 0.5, "samples": 1000, "frozen_epochs": 3, "max_collapses": 3}
    assert plain["negatives"] is None
    changed = experiment.training_of("ecc").as_dict()
    assert (changed["schedule"], changed["recovery"]) == ("cosine", None)
    negatives = experiment.training_of("softmax").as_dict()["negatives"]
    assert negatives == {"name": "overlay", "faintest": 0.7, "share": 1.0, "start_epoch": 20}


def test_the_grid_is_variants_times_seeds_times_attacks():
    """Each model meets every attack but a transfer from itself; Lipschitz models are certified."""
    config = load([DEFAULT])
    cells = list(Graph(config).cells_of("digits"))
    stages = [cell.stage.name for cell in cells]
    assert stages.count("train") == 12
    assert stages.count("evaluate") == 12 * len(config.experiments["digits"].attacks) - 3
    assert {cell.variant for cell in cells if cell.stage.name == "certify"} == {"lipschitz"}


def test_a_certificate_that_fits_no_variant_is_refused(tmp_path):
    """A Lipschitz certificate is refused in an experiment without Lipschitz networks."""
    file = edited(tmp_path, (*D, "variants", "lipschitz"), None, remove=True)
    with pytest.raises(InputError, match=r"certificates\.lipschitz: no variant has a lipschitz network"):
        load([file])


def test_a_transfer_from_every_variant_is_one_attack_per_source(tmp_path):
    """`*` is every variant; no model is attacked from itself; a list is an ensemble without the model itself."""
    config = load([edited(tmp_path, (*D, "attacks", "pgd", "transfer_from"), "*")])
    experiment = config.experiments["digits"]
    named = [f"pgd_from_{variant}" for variant in experiment.variants]
    assert list(experiment.attacks) == [
        *("fgsm", *named, "adaptive", "autoattack", "transfer", "spsa", "ddn", "pgd_l2", "noise")
    ]
    cells = Graph(config).cells_of("digits")
    found = {(cell.variant, cell.name) for cell in cells if cell.name.startswith("pgd_from_")}
    assert found == {(v, f"pgd_from_{s}") for v in experiment.variants for s in experiment.variants if v != s}
    config = load([edited(tmp_path, (*D, "attacks", "pgd", "transfer_from"), ["ecc", "softmax"])])
    attack = config.experiments["digits"].attacks["pgd"]
    assert attack.sources("ecc", experiment.variants) == ["softmax"]
    assert attack.sources("lipschitz", experiment.variants) == ["softmax", "ecc"]


@pytest.mark.parametrize("first", [True, False])
def test_an_expanded_transfer_with_a_taken_name_is_refused(tmp_path, first):
    """Two attacks of one name are refused, whatever their order."""
    attacks = read_yaml(DEFAULT).content["experiments"]["digits"]["attacks"]
    own, crossed = {"t_from_ecc": attacks["fgsm"]}, {"t": {**attacks["pgd"], "transfer_from": "*"}}
    with pytest.raises(InputError, match="two attacks are called 't_from_ecc'"):
        load([edited(tmp_path, (*D, "attacks"), {**own, **crossed} if first else {**crossed, **own})])


def test_titles_and_headline_are_in_no_slice(tmp_path):
    """Titles and headline change no cell's slice; an expanded transfer's title names its source."""
    config = copy.deepcopy(read_yaml(DEFAULT).content)
    experiment, file = config["experiments"]["digits"], tmp_path / "titled.yaml"
    plain = load([DEFAULT]).experiments["digits"]
    experiment["variants"]["ecc"]["title"] = "Error-correcting, 100 %"
    experiment["attacks"]["pgd"]["title"] = "PGD"
    experiment["certificates"]["lipschitz"]["title"] = "margin"
    experiment["headline"] = {"linf": [0.1], "l2": [0.5]}
    file.write_text(dump_yaml(config))
    titled = load([file]).experiments["digits"]
    assert titled.as_dict() == plain.as_dict()
    assert plain.presentation() == {"headline": {"linf": [0.1], "l2": [0.25]}}
    assert titled.presentation() == {
        "variants": {"ecc": "Error-correcting, 100 %"},
        "attacks": {"pgd": "PGD"},
        "certificates": {"lipschitz": "margin"},
        "headline": {"linf": [0.1], "l2": [0.5]},
    }
    experiment["attacks"]["transfer"] |= {"transfer_from": "*", "title": "transferred"}
    file.write_text(dump_yaml(config))
    assert load([file]).experiments["digits"].attacks["transfer_from_ecc"].title == "transferred from ecc"
