"""Evaluation of one attack on one model: every result verified and counted, in parts that are independent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.device_memory import memory_of
from gauntlet.core.errors import InputError, located
from gauntlet.core.randomness import sample_keys
from gauntlet.learning.data.stored_images import UnitImages, hashes_of
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.model import AttackModel, Precision
from gauntlet.robustness.evaluation.attack_runner import AttackRunner
from gauntlet.robustness.evaluation.budget_walk import BudgetWalk, try_below_held, try_smaller_balls, walks_downward
from gauntlet.robustness.evaluation.examples import select_examples
from gauntlet.robustness.evaluation.memory import fit_to_memory
from gauntlet.robustness.evaluation.precision import choose_precision
from gauntlet.robustness.evaluation.refused_successes import move_outward
from gauntlet.robustness.evaluation.sample_results import SampleResults
from gauntlet.robustness.evaluation.shards import SampleRange, default_batch_size, default_pass_size, part_ranges
from gauntlet.robustness.evaluation.types import AttackSettings, Evaluation, EvaluationPart
from gauntlet.robustness.evaluation.verification import check_gradients, find_invalid
from gauntlet.robustness.judge import CellIdentity, Judge
from gauntlet.robustness.networks import device_of
from gauntlet.robustness.preflight import (
    PREFLIGHT_IMAGES,
    check_eval_mode,
    check_first_batch,
    check_images,
    check_model,
    needed_draws,
)

_MAX_ERRORS = 10


def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: AttackSettings,
    *,
    keep_examples: int = 32,
    **settings: Any,
) -> Evaluation:
    """Evaluate an attack on all images; `settings` are those of `evaluate_parts`. Raises as it does."""
    parts = list(evaluate_parts(network, images, labels, attack, keep_examples=keep_examples, **settings))
    return merge_parts(parts, keep_examples=keep_examples)


def merge_parts(parts: list[EvaluationPart], *, keep_examples: int = 32) -> Evaluation:
    """Merge finished parts, in the order of the split, into an evaluation."""
    ordered = sorted(parts, key=lambda part: part.start)
    return Evaluation(
        rows=pa.concat_tables([part.rows for part in ordered]).combine_chunks(),
        precision=", ".join(sorted({part.precision for part in ordered})),
        examples=select_examples([part.examples for part in ordered], keep_examples),
        errors=tuple(error for part in ordered for error in part.errors)[:_MAX_ERRORS],
    )


def evaluate_parts(
    network: nn.Module,
    images: Tensor | UnitImages,
    labels: Tensor,
    attack: AttackSettings,
    *,
    identity: CellIdentity,
    device: str | torch.device | None = None,
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    part_size: int | None = None,
    ranges: Sequence[SampleRange] | None = None,
    keep_examples: int = 32,
    sources: Sequence[nn.Module] = (),
    preflight: bool = True,
) -> Iterator[EvaluationPart]:
    """Evaluate an attack on images `(N, C, H, W)` in [0, 1] with labels `(N,)`; yield each part when it is finished.

    Misclassified images are not attacked. A bounded attack runs at each epsilon on the samples whose smallest budget is
    not known yet, in the order that `walks_downward` chooses; a minimum-norm attack runs once, and its distances are
    measured. Every image that the attack returns is checked, and classified by the plain model in float32. A row
    depends only on its image, its label, the model, the attack and the seed, not on batch size, parts, order or the
    other images (in float32, up to rounding). A random model is judged by its mean over at least `JUDGED_DRAWS` passes,
    whose draws depend on the image alone and are other than those that the attack saw; `draws` has no effect on a model
    that is not random.

    A part has `part_size` samples, by default one batch. To resume, or to evaluate one shard, pass its `ranges`. With
    `sources`, other networks for the same classes, the attack sees only these (transfer); success is still judged on
    `network`. Without `preflight`, the caller has passed the networks to `check_model`.

    Raises InputError when model, images or options cannot be used, AttackError when the attack raises or returns
    something other than a batch of images. Single images that are invalid get status error.
    """
    check_images(images, labels)
    run_device = torch.device(device) if device is not None else device_of(network)
    size = default_pass_size(run_device.type, images.shape[1:]) if batch_size == "auto" else batch_size
    y = labels.to(torch.int64)
    first_images = images[:PREFLIGHT_IMAGES].to(run_device)
    names = ("", *(f"sources[{number}]" for number in range(len(sources))))
    for checked, name in zip((network, *sources), names, strict=True):
        with located(name):
            check_eval_mode(checked)
    attack = replace(attack, draws=needed_draws(attack.draws, (network, *sources), first_images, device=run_device))
    classes: list[int] = []
    judges = [Judge(each, device=run_device, batch_size=size, draws=attack.draws) for each in (network, *sources)]
    for judge, name in zip(judges, names, strict=True):
        with located(name):
            if preflight:
                classes.append(check_model(judge, first_images, None if classes else y).shape[1])
    for count in classes[1:]:
        if count != classes[0]:
            problem = f"a source has {count} classes, the attacked model {classes[0]}"
            raise InputError(problem, remedy="take sources for the same classes")
    seen = sources[0] if sources else network
    chosen_precision = choose_precision(
        precision, attack, seen, first_images, y, device=run_device, transfers=bool(sources)
    )
    model = AttackModel(
        network,
        device=run_device,
        precision=chosen_precision,
        surrogate=attack.surrogate,
        sources=sources,
        draws=attack.draws,
        batch_size=size,
        judge=judges[0],
    )
    runner = AttackRunner(model, attack)
    if _takes_gradients(runner):
        with float32_arithmetic(model.arithmetic):
            check_gradients(model, first_images.to(model.dtype))
    if batch_size == "auto" and (memory := memory_of(run_device)) is not None:
        fit_to_memory(model, first_images, memory, takes_gradients=_takes_gradients(runner))
    if ranges is None:
        ranges = part_ranges(len(images), part_size=part_size or default_batch_size(run_device.type))
    for start, stop in ranges:
        part = slice(start, stop)
        rows, examples, errors = _evaluate_samples(
            runner,
            images[part],
            y[part],
            hashes_of(images, part),
            start=start,
            identity=identity,
            keep_examples=keep_examples,
        )
        yield EvaluationPart(start, stop, rows, examples, chosen_precision, tuple(errors[:_MAX_ERRORS]))


def _takes_gradients(runner: AttackRunner) -> bool:
    """Return whether the attack takes gradients: stated by the component itself (adapters) or by its tag."""
    tags = ATTACKS.entry(runner.attack.spec.name).tags
    return bool(getattr(runner.component, "access", tags.get("access")) == "gradient")


def _evaluate_samples(
    runner: AttackRunner,
    images: Tensor,
    labels: Tensor,
    hashes: list[str],
    *,
    start: int,
    identity: CellIdentity,
    keep_examples: int,
) -> tuple[pa.Table, dict[str, Any], list[str]]:
    """Return rows, candidates of examples and errors of the samples from index `start` on, which alone decide them."""
    model, attack = runner.model, runner.attack
    keys = sample_keys(identity.seed, f"attack:{attack.spec.name}:{attack.seed}", hashes, device=model.device)
    x, y = images.to(model.device, model.dtype), labels.to(model.device)
    clean_logits = model.judge.logits(x)
    if start == 0:
        check_first_batch(model.judge, x, clean_logits)
    results = SampleResults(x, y, clean_logits, attack, model.judge.confidence)
    epsilons = sorted(attack.epsilons) if attack.epsilons is not None else [None]
    walk = BudgetWalk(epsilons, results.attacked, downward=walks_downward(attack, model))
    while (step := walk.next()) is not None:
        position, active = step
        epsilon = epsilons[position]
        returned, logits, counts = runner(x[active], y[active], keys[active], epsilon)
        invalid = find_invalid(x[active], returned, norm=attack.norm, epsilon=epsilon)
        for row in (~logits.isfinite().all(1)).nonzero()[:, 0].tolist():
            invalid.setdefault(row, "the model's outputs there are not finite")
        points = returned.clamp(0.0, 1.0)
        robust, fooled = results.record(active, points, logits, counts, invalid, epsilon=epsilon)
        walk.update(active, position, robust)
        try_smaller_balls(walk, results, model, active[fooled])
        try_below_held(walk, results, model, active[robust], points[robust], position)
        move_outward(results, model, active[robust], points[robust])
    return *results.finish(start, hashes, identity, keep=keep_examples), results.errors(start)
