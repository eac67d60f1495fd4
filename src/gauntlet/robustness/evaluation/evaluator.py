"""Runs one attack over one split: verified, counted, in parts that do not depend on each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize, is_out_of_memory
from gauntlet.core.errors import AttackError, GauntletError
from gauntlet.core.geometry import distances
from gauntlet.core.randomness import sample_keys
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.learning.data.splits import sample_hashes
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.model import AttackModel, Precision
from gauntlet.robustness.attacks.base.query_counts import COUNTED
from gauntlet.robustness.evaluation import verification as checks
from gauntlet.robustness.evaluation.examples import candidates, select
from gauntlet.robustness.evaluation.precision import choose
from gauntlet.robustness.evaluation.shards import PART_SIZES, Piece
from gauntlet.robustness.evaluation.shards import pieces as divide
from gauntlet.robustness.evaluation.types import AttackPlan, Evaluation, EvaluationPart
from gauntlet.robustness.judge import CellIdentity, Judge, device_of, logit_margin
from gauntlet.robustness.preflight import PROBES, check_eval_mode, check_images, check_logits

_BATCH_SIZES = {"cpu": 256, "cuda": 1024}
_ERRORS_TOLD = 10


def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: AttackPlan,
    *,
    on_part: Callable[[EvaluationPart], None] | None = None,
    keep_examples: int = 32,
    **settings: Any,
) -> Evaluation:
    """Run an attack over all images and gather its parts; `settings` are those of `evaluate_parts`.

    `on_part` is called with each part as it is finished. Raises as `evaluate_parts` does.
    """
    parts = []
    for part in evaluate_parts(network, images, labels, attack, keep_examples=keep_examples, **settings):
        parts.append(part)
        if on_part is not None:
            on_part(part)
    return gather(parts, keep_examples=keep_examples)


def gather(parts: list[EvaluationPart], *, keep_examples: int = 32) -> Evaluation:
    """Join finished parts, in the order of the split, into an evaluation."""
    ordered = sorted(parts, key=lambda part: part.start)
    errors = tuple(error for part in ordered for error in part.errors)[:_ERRORS_TOLD]
    rows = pa.concat_tables([part.rows for part in ordered]).combine_chunks()
    precision = ", ".join(sorted({part.precision for part in ordered}))
    return Evaluation(rows, precision, select([part.examples for part in ordered], keep_examples), errors)


def evaluate_parts(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: AttackPlan,
    *,
    identity: CellIdentity,
    device: str | torch.device | None = None,
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    part_size: int | None = None,
    pieces: Sequence[Piece] | None = None,
    keep_examples: int = 32,
    sources: Sequence[nn.Module] = (),
) -> Iterator[EvaluationPart]:
    """Run an attack over images `(N, C, H, W)` in [0, 1] with labels `(N,)`, giving each part as it is finished.

    Misclassified images are not attacked. A bounded attack's epsilons are walked upward and fooled samples leave; a
    minimum-norm attack runs once and its distances are measured. Everything an attack returns is checked and judged
    by the plain model in float32. A row depends on its image, its label, the model, the attack and the seed alone, not
    on batch size, parts, order or the other images (in float32 up to rounding, where it decides). A part has
    `part_size` samples, a batch if not said. To go on after an interruption, or to do one shard, give its `pieces`.
    With `sources`, other networks for the same classes, the attack sees these alone (transfer); success is judged on
    `network` all the same.

    Raises InputError when model, images or options cannot be used, AttackError when the attack raises or returns
    something that is no batch of images; what breaks its promise in single rows gets status error.
    """
    check_images(images, labels)
    component = ATTACKS.load(attack.spec.name)
    tags = ATTACKS.entry(attack.spec.name).tags
    access = getattr(component, "access", tags.get("access"))
    place = torch.device(device) if device is not None else device_of(network)
    size = _BATCH_SIZES.get(place.type, 256) if batch_size == "auto" else batch_size
    y = labels.to(torch.int64)
    probes = images[:PROBES].to(place)
    for one in (network, *sources):
        check_eval_mode(one)
        check_logits(Judge(one, device=place, batch_size=size, draws=attack.draws), probes, y)
    chosen_precision = choose(precision, attack, sources[0] if sources else network, images, y, device=place)
    model = AttackModel(
        network,
        device=place,
        precision=chosen_precision,
        surrogate=attack.surrogate,
        sources=sources,
        draws=attack.draws,
        batch_size=size,
    )
    runner = Runner(model, component, attack, precision=chosen_precision, whole=tags.get("batching") == "attack")
    if access == "gradient":
        checks.check_gradients(model, probes.to(model.dtype))
    if pieces is None:
        pieces = divide(len(images), part_size=part_size or PART_SIZES.get(place.type, 256))
    for first, stop in pieces:
        chosen = slice(first, stop)
        yield _part(runner, images[chosen], y[chosen], first=first, identity=identity, keep_examples=keep_examples)


class Runner:
    """Calls an attack on any number of samples, in batches, and halves them when memory runs out."""

    def __init__(
        self, model: AttackModel, component: Callable[..., Any], plan: AttackPlan, *, precision: str, whole: bool
    ) -> None:
        self.model, self.component, self.plan, self.precision, self.whole = model, component, plan, precision, whole
        parameters = inspect.signature(component).parameters
        self.accepts = lambda name: name in parameters

    def __call__(
        self, x: Tensor, y: Tensor, keys: Tensor, epsilon: float | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Attack x `(B, C, H, W)`; give the images it returns, the plain model's logits there, and what was counted."""
        returned, logits = torch.empty_like(x), []
        counted = {name: torch.zeros_like(y) for name in COUNTED}

        def attack(part: slice) -> None:
            returned[part] = self._call(x[part], y[part], keys[part], epsilon)
            judged = self.model.verdict(returned[part].clamp(0.0, 1.0))
            logits.append(judged)
            for name, total in counted.items():
                total[part] = self.model.counts.of[name]

        # An attack that cuts its own batches gets all samples; it starts again only where a single pass does not fit.
        batches = BatchSize(len(x), self.model.device) if self.whole else self.model.memory
        for _ in batches.parts(len(x), attack):
            pass
        return returned, torch.cat(logits), counted

    def _call(self, x: Tensor, y: Tensor, keys: Tensor, epsilon: float | None) -> Tensor:
        name = self.plan.spec.name
        supplied: dict[str, Any] = {"norm": self.plan.norm, "keys": keys}
        if epsilon is not None:
            supplied["epsilon"] = epsilon
        arguments = {key: value for key, value in supplied.items() if self.accepts(key)}
        self.model.start_counting(len(x))
        try:
            # Clones: an attack that works in place must not move the images that a second try starts from.
            result = self.component(self.model, x.clone(), y.clone(), **arguments, **self.plan.spec.options)
        except GauntletError:
            raise
        except Exception as error:  # whatever a foreign attack raises
            if is_out_of_memory(error):
                raise
            raise AttackError(f"attack {name} raised {type(error).__name__}: {error}", where=self.plan.name) from error
        if not isinstance(result, Tensor) or result.shape != x.shape:
            got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise AttackError(f"attack {name} returned {got} for images {tuple(x.shape)}", where=self.plan.name)
        return result.detach().to(x)


def _part(
    runner: Runner, images: Tensor, labels: Tensor, *, first: int, identity: CellIdentity, keep_examples: int
) -> EvaluationPart:
    """Evaluate one part: a pure function of its samples."""
    model, plan = runner.model, runner.plan
    hashes = sample_hashes(images.to(torch.float32))
    keys = sample_keys(identity.seed, f"attack:{plan.spec.name}:{plan.seed}", hashes, device=model.device)
    x, y = images.to(model.device, model.dtype), labels.to(model.device)
    clean = model.judge(x)
    state = _State(x, y, clean, model.confidence)
    left = (state.clean_prediction == y).nonzero()[:, 0]
    errors: list[str] = []
    for epsilon in sorted(plan.epsilons) if plan.epsilons is not None else [None]:
        if not len(left):
            break
        returned, logits, counted = runner(x[left], y[left], keys[left], epsilon)
        reasons = checks.broken_promises(x[left], returned, norm=plan.norm, epsilon=epsilon)
        points = returned.clamp(0.0, 1.0)
        for row in (~logits.isfinite().all(1)).nonzero()[:, 0].tolist():
            reasons.setdefault(row, "the model's outputs there are not finite")
        errors += [f"sample {first + int(left[row])}: {reason}" for row, reason in sorted(reasons.items())]
        left = state.record(left, points, logits, counted, sorted(reasons), plan=plan, epsilon=epsilon)
    table, examples = state.rows(first, hashes, identity, plan)
    kept = candidates(examples, keep_examples) if keep_examples else {}
    return EvaluationPart(first, first + len(images), table, kept, runner.precision, tuple(errors[:_ERRORS_TOLD]))


class _State:
    """What is known so far of each sample of a part."""

    def __init__(self, x: Tensor, y: Tensor, clean: Tensor, confidence_of: Callable[[Tensor], Tensor]) -> None:
        self.x, self.y = x, y
        self.clean_prediction = clean.argmax(1)
        self.confidence_of = confidence_of
        self.clean_confidence = confidence_of(clean)
        self.margin = logit_margin(clean, y)
        self.points = x.clone()
        self.prediction = self.clean_prediction.clone()
        self.confidence = self.clean_confidence.clone()
        self.epsilon = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
        self.counted = {name: torch.zeros_like(y) for name in COUNTED}
        wrong = self.clean_prediction != y
        self.epsilon[wrong] = 0.0
        self.status = np.where(wrong.cpu().numpy(), "already_wrong", "robust").astype(object)

    def record(
        self,
        rows: Tensor,
        points: Tensor,
        logits: Tensor,
        counted: Mapping[str, Tensor],
        bad: list[int],
        *,
        plan: AttackPlan,
        epsilon: float | None,
    ) -> Tensor:
        """Book what an attack found for `rows`; give the rows that still hold, int64 `(A,)`."""
        # What is no perturbation of the image need not keep its class: no class of it is a success.
        counts = ATTACKS.entry(plan.spec.name).tags.get("access") != "none"
        for name, total in self.counted.items():
            total[rows] += counted[name]
        self.points[rows], self.prediction[rows] = points, logits.argmax(1)
        self.confidence[rows] = self.confidence_of(logits)
        fooled = (logits.argmax(1) != self.y[rows]) & counts
        holds = ~fooled
        if bad:
            fooled[bad] = holds[bad] = False
            self.status[rows[bad].cpu().numpy()] = "error"
            self.prediction[rows[bad]], self.confidence[rows[bad]] = -1, torch.nan
        self.status[rows[fooled].cpu().numpy()] = "adversarial"
        measured = distances(points - self.x[rows])[plan.norm]
        self.epsilon[rows[fooled]] = measured[fooled] if epsilon is None else epsilon
        return rows[holds]

    def rows(
        self, first: int, hashes: list[str], identity: CellIdentity, plan: AttackPlan
    ) -> tuple[pa.Table, dict[str, np.ndarray]]:
        """Give the rows of EVALUATION_SCHEMA, and every fooled sample as an example."""
        sizes = {name: value.cpu().numpy() for name, value in distances(self.points - self.x).items()}
        epsilon = self.epsilon.cpu().numpy()
        count = len(hashes)
        index = np.arange(first, first + count)
        columns: dict[str, Any] = {
            "experiment": [identity.experiment] * count,
            "variant": [identity.variant] * count,
            "seed": np.full(count, identity.seed),
            "attack": [plan.name] * count,
            "norm": [plan.norm] * count,
            "index": index,
            "label": self.y.cpu().numpy(),
            "clean_prediction": self.clean_prediction.cpu().numpy(),
            "adversarial_prediction": self.prediction.cpu().numpy(),
            **sizes,
            "clean_confidence": self.clean_confidence.cpu().numpy(),
            "adversarial_confidence": self.confidence.cpu().numpy(),
            **{name: total.cpu().numpy() for name, total in self.counted.items()},
            "status": list(self.status),
            "sample_hash": hashes,
        }
        arrays = [
            pa.array(epsilon, mask=np.isnan(epsilon)).cast(field.type, safe=False)
            if field.name == "epsilon"
            else pa.array(columns[field.name]).cast(field.type, safe=False)
            for field in EVALUATION_SCHEMA
        ]
        table = pa.Table.from_arrays(arrays, schema=EVALUATION_SCHEMA)
        fooled = (self.status == "adversarial").nonzero()[0]
        distance = sizes[plan.norm][fooled]
        examples = {
            "index": index[fooled],
            "original": self.x[fooled].to(torch.float32).cpu().numpy(),
            "adversarial": self.points[fooled].to(torch.float32).cpu().numpy(),
            "label": columns["label"][fooled].astype(np.int32),
            "clean_prediction": columns["clean_prediction"][fooled].astype(np.int32),
            "adversarial_prediction": columns["adversarial_prediction"][fooled].astype(np.int32),
            "epsilon": epsilon[fooled].astype(np.float32),
            "distance": distance.astype(np.float32),
            "ratio": (self.margin.cpu().numpy()[fooled] / np.maximum(distance, 1e-12)).astype(np.float32),
        }
        return table, examples
