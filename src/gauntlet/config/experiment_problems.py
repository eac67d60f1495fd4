"""Checks of an experiment whose parts are valid one by one: what does not fit together, at its key path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gauntlet.config.base import letters_only
from gauntlet.config.choices import choice_problems
from gauntlet.config.compatibility import (
    code_problem,
    loss_problem,
    surrogate_problem,
    targets_problem,
    variant_problems,
)
from gauntlet.config.components import Problem
from gauntlet.config.feasibility import budget_problem, network_problems, schedule_problems
from gauntlet.config.grids.places import CHOSEN_FROM
from gauntlet.config.published import published_problems
from gauntlet.core.budgets import is_close
from gauntlet.core.errors import nearest
from gauntlet.registry import CERTIFICATES

if TYPE_CHECKING:
    from gauntlet.config.attacks import Attack
    from gauntlet.config.schema import Experiment


def experiment_problems(experiment: Experiment) -> Iterator[Problem]:
    """Yield every problem of an experiment, as key path below it and message."""
    yield from _seed_problems(experiment)
    yield from _certificate_problems(experiment)
    yield from _attack_problems(experiment)
    yield from _variant_problems(experiment)
    yield from _headline_problems(experiment)
    yield from _name_problems(experiment)
    yield from published_problems(experiment)


def _seed_problems(experiment: Experiment) -> Iterator[Problem]:
    if len(set(experiment.seeds)) < len(experiment.seeds):
        yield ("seeds",), "a seed is given twice"
    if "seeds" in experiment.model_fields_set and all(variant.is_adopted for variant in experiment.networks.values()):
        yield ("seeds",), "has no effect: every variant has `weights`, and one seed per file; leave it out"


def _certificate_problems(experiment: Experiment) -> Iterator[Problem]:
    for name, certificate in experiment.certificates.items():
        if not any(certificate.applies_to(variant) for variant in experiment.networks.values()):
            needs = CERTIFICATES.entry(certificate.certificate.name).tags["needs"]
            yield ("certificates", name), f"no variant has a {needs} network, so nothing can be certified"
        for chosen in experiment.choices:
            fits = {
                candidate: certificate.applies_to(variant)
                for candidate, variant in experiment.possible_networks(chosen).items()
            }
            if len(set(fits.values())) > 1:
                with_it, without = (next(key for key in fits if fits[key] is value) for value in (True, False))
                problem = f"'{with_it}' can have the certificate '{name}' and '{without}' cannot"
                remedy = "choose among networks that all can, or none"
                yield ("variants", chosen, CHOSEN_FROM), f"{problem}; {remedy}"


def _attack_problems(experiment: Experiment) -> Iterator[Problem]:
    for name, attack in experiment.attacks.items():
        unknown = [source for source in attack.transfer_from or () if source not in experiment.variants]
        for source in unknown:
            yield ("attacks", name, "transfer_from"), f"no variant '{source}'; {nearest(source, experiment.variants)}"
        for source in attack.transfer_from or ():
            if owner := next(
                (key for key in experiment.choices if source in experiment.choices[key].chosen_from), None
            ):
                is_candidate = f"'{source}' is a candidate of '{owner}', which may have its model"
                yield ("attacks", name, "transfer_from"), f"{is_candidate}; name {owner}"
        if not unknown and not any(attack.applies_to(variant, experiment.variants) for variant in experiment.measured):
            yield ("attacks", name, "transfer_from"), "no other variant is left to attack"
        if not unknown and (problem := _transfer_problem(experiment, attack)):
            yield ("attacks", name, "transfer_from"), problem
        seen = [
            variant
            for key in experiment.measured
            if key in (attack.transfer_from or experiment.variants)
            for variant in experiment.possible_networks(key).values()
        ]
        if seen and (problem := surrogate_problem(attack.surrogate, seen)):
            yield ("attacks", name, "surrogate"), problem
        if problem := targets_problem(attack.attack, experiment.dataset):
            yield ("attacks", name, "targets"), problem
        if problem := loss_problem(attack.attack, experiment.dataset, seen):
            yield ("attacks", name, "loss"), problem
        if attack.samples and experiment.samples and attack.samples > experiment.samples:
            problem = f"{attack.samples} is more than the experiment's `samples`, {experiment.samples}"
            remedy = f"choose at most {experiment.samples}, or leave it out"
            yield ("attacks", name, "samples"), f"{problem}; {remedy}"
        budgets = attack.epsilons if attack.units == "pixels" else None
        if problem := budget_problem(attack.norm, budgets or (), experiment.dataset):
            yield ("attacks", name, "epsilons"), problem


def _transfer_problem(experiment: Experiment, attack: Attack) -> str | None:
    """Return a message if a source of a transfer has no model of a seed that an attacked variant has."""
    for target in experiment.measured:
        if attack.applies_to(target, experiment.variants):
            for source in attack.sources(target, experiment.variants):
                if lacking := sorted(set(experiment.seeds_of(target)) - set(experiment.seeds_of(source))):
                    problem = f"{source} has no model of seed {lacking[0]}, which {target} has"
                    return f"{problem}; give both the same number of seeds"
    return None


def _variant_problems(experiment: Experiment) -> Iterator[Problem]:
    for name, variant in experiment.networks.items():
        training = experiment.training_of(name)
        for key_path, message in (
            *variant_problems(variant, training),
            *network_problems(variant, experiment.dataset),
            *schedule_problems(training, experiment.dataset),
        ):
            yield ("variants", name, *key_path), message
        if problem := code_problem(variant, experiment.dataset):
            yield ("variants", name, "model", "head", "length"), problem
    trainings = {name: experiment.training_of(name) for name in experiment.networks} if experiment.choices else {}
    seeds = {name: experiment.seeds_of(name) for name in experiment.networks} if experiment.choices else {}
    for name in experiment.choices:
        if experiment.dataset.test == "all":
            yield ("variants", name, CHOSEN_FROM), "`dataset.test: all` leaves no validation images to choose by"
        for key_path, message in choice_problems(name, experiment.variants, trainings, seeds):
            yield ("variants", name, *key_path), message


def _headline_problems(experiment: Experiment) -> Iterator[Problem]:
    """Yield headline norms and budgets at which nothing is measured."""
    for norm, headline in experiment.headline.items():
        attacks = [attack for attack in experiment.attacks.values() if attack.norm == norm]
        if not attacks and all(certificate.norm != norm for certificate in experiment.certificates.values()):
            yield ("headline", norm), f"there is no attack and no certificate in {norm}"
        budgets = experiment.budgets().get(norm, [])
        for index, value in enumerate(headline):
            if any(is_close(value, other) for other in headline[:index]):
                yield ("headline", norm, index), f"the budget {value:g} is given twice; leave one of them out"
        unknown = [value for value in headline if not any(is_close(value, budget) for budget in budgets)]
        # Budgets in other units are known in pixels only when the data are.
        if unknown and budgets and all(attack.units == "pixels" for attack in attacks):
            known = ", ".join(f"{value:g}" for value in budgets)
            yield ("headline", norm), f"no attack is run at {unknown[0]:g}; there are {known}"


def _name_problems(experiment: Experiment) -> Iterator[Problem]:
    problems = list(_equal_macros(experiment))
    yield from problems or _equal_macros_of_columns(experiment)
    yield from _equal_titles(experiment)
    for name in sorted(set(experiment.attacks) & set(experiment.certificates)):
        yield ("certificates", name), "an attack has this name already"


def _equal_macros(experiment: Experiment) -> Iterator[Problem]:
    """Yield variants, attacks and certificates whose names are equal in the letters of a LaTeX macro."""
    names = {
        "variants": experiment.measured,
        "attacks": tuple(experiment.attacks),
        "certificates": tuple(experiment.certificates),
    }
    for kind in names:
        owners: dict[str, str] = {}
        for name in names[kind]:
            if (other := owners.setdefault(letters_only(name), name)) != name:
                problem = f"it has the LaTeX macros of '{other}'; names must differ in more than - and _"
                yield (kind, name), problem


def _equal_macros_of_columns(experiment: Experiment) -> Iterator[Problem]:
    """Yield variants that have with one column the macro of another variant with another column.

    A macro's name is that of the variant followed by that of the attack or certificate: `a` with `b_c` is `a_b` with
    `c`. Columns of two norms have macros of other budgets.
    """
    columns: list[tuple[str, str, str]] = [
        ("attacks", attack.norm, name) for name, attack in experiment.attacks.items()
    ]
    columns += [("certificates", item.norm, f"certified_{name}") for name, item in experiment.certificates.items()]
    letters = [(kind, norm, name, letters_only(name)) for kind, norm, name in columns]
    owners: dict[tuple[str, str, str], str] = {}
    for variant in experiment.measured:
        own = letters_only(variant)
        for kind, norm, name, column in letters:
            both = f"variant '{variant}' with '{name}'"
            if (other := owners.setdefault((kind, norm, own + column), both)) != both:
                yield ("variants", variant), f"{both} has the LaTeX macro of {other}; rename one of them"


def _equal_titles(experiment: Experiment) -> Iterator[Problem]:
    """Yield titles that two variants have, or two attacks or certificates of one norm."""
    variants, attacks, certificates = experiment.variants, experiment.attacks, experiment.certificates
    shown: list[tuple[str, str, str, str | None, object]] = [
        *(("variants", "", name, variants[name].title, name) for name in experiment.measured),
        # Attacks that differ in their seed alone are one column.
        *(
            ("attacks", attack.norm, name, attack.title, {**experiment.attack_dict(name), "seed": None})
            for name, attack in attacks.items()
        ),
        *(("certificates", item.norm, name, item.title, name) for name, item in certificates.items()),
    ]
    owners: dict[tuple[str, str, str], tuple[str, object]] = {}
    for kind, norm, name, title, content in shown:
        other, content_of_other = owners.setdefault((kind, norm, title or name), (name, content))
        if content_of_other != content:
            problem = f"'{other}' has the title '{title or name}' too, which figures and tables could not distinguish"
            yield (kind, name, "title"), f"{problem}; choose another"
