"""Schemas of the tables that stages exchange.

A row describes one sample of one cell; `index` is the position in the split, `sample_hash` the content of the image,
so that runs join by position and content. Distances are in pixel units of [0, 1]. Budgets, distances and radii are
float64, so that a number compares alike as a literal, a parameter and a column, in every tool.
"""

from __future__ import annotations

import pyarrow as pa

from gauntlet.core.norms import NORMS

EVALUATION_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("index", pa.int64()),
        ("label", pa.int32()),
        ("clean_prediction", pa.int32()),
        ("adversarial_prediction", pa.int32()),
        ("epsilon", pa.float64()),
        *((norm, pa.float64()) for norm in NORMS),
        ("clean_confidence", pa.float32()),
        ("adversarial_confidence", pa.float32()),
        ("forwards", pa.int64()),
        ("backwards", pa.int64()),
        ("zero_gradients", pa.int64()),
        ("nonfinite_gradients", pa.int64()),
        ("status", pa.string()),
        ("sample_hash", pa.string()),
    ]
)
"""One row per sample of one (variant, seed, attack).

`epsilon` is the smallest budget, in the attack's norm, at which the sample is known to be fooled: 0 if it is
misclassified without perturbation, the measured distance (the column of that norm) for minimum-norm attacks, the
smallest value of the grid, as configured, for bounded ones, null if never. `forwards` and `backwards` count passes of
the networks that the attack saw; `zero_gradients` and `nonfinite_gradients` count its gradients at this sample that
were zero in all entries, or not finite. `status` is adversarial, robust, already_wrong or error; an error never counts
as robust.
"""

CHOICE_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("candidate", pa.string()),
        ("settings", pa.string()),
        ("chosen", pa.bool_()),
        ("by", pa.string()),
        ("over", pa.string()),
        ("score", pa.float64()),
        ("epoch", pa.int32()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("robust_validation_accuracy", pa.float64()),
    ]
)
"""One row per candidate of one (variant, seed) that was chosen from several, in the order of the configuration.

`score` is what candidates were compared by: the figure that `by` names, of this seed (`over` is each_seed) or its mean
over seeds (all_seeds); null if it is missing or not finite, which excludes the candidate. The lowest loss or the
highest accuracy is `chosen`, the first row among equals. `epoch` is the one whose weights were kept, null for adopted
models; the figures are of this epoch and this seed, null if not measured. All are of the validation split.
`settings` are the drawn values of a candidate of a random search as JSON, null for one that is written out.
"""

CERTIFICATE_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("certificate", pa.string()),
        ("norm", pa.string()),
        ("index", pa.int64()),
        ("label", pa.int32()),
        ("clean_prediction", pa.int32()),
        ("clean_confidence", pa.float32()),
        ("radius", pa.float64()),
        ("status", pa.string()),
        ("sample_hash", pa.string()),
    ]
)
"""One row per sample of one (variant, seed, certificate); `radius` is rounded down, to a number that float32
can hold, and 0 unless `status` is certified.

`status` is certified, abstained or already_wrong. `clean_prediction` and `clean_confidence` (the largest probability,
of softmax or of sigmoids) are the model's. For a certificate of another classifier, such as `smoothing`, they are that
classifier's, with prediction -1 where it abstains, and the confidence is what the certificate documents: for
`smoothing` the lower bound of the class's probability under noise. `status` follows this prediction.
"""
