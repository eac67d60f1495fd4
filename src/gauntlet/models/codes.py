"""Error-correcting output codes: the code matrix, and probabilities from a received word.

Source: Verma and Swami 2019 (NeurIPS), "Error correcting output codes improve probability estimation and adversarial
robustness of deep neural networks".
"""

from __future__ import annotations

import torch
from torch import Tensor


def code_length(num_classes: int) -> int:
    """Give the smallest power of two that is at least the number of classes."""
    return 1 << max(1, (num_classes - 1).bit_length())


def hadamard_code(num_classes: int) -> Tensor:
    """Give one codeword a class: float32 `(K, L)` of ±1, the first K rows of a Sylvester-Hadamard matrix of size L.

    The matrix's first column is constant and would carry nothing; it is made to alternate, -1 on even rows.
    """
    length = code_length(num_classes)
    matrix = torch.ones(1, 1)
    while len(matrix) < length:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    matrix[0::2, 0] = -1
    return matrix[:num_classes].clone()


def log_probabilities(word: Tensor, code: Tensor, *, top_probability: float = 0.99999) -> Tensor:
    """Turn received words (`(B, L)`, values in [-1, 1]) into log-probabilities `(B, K)` by inverse distance.

    ``p_k = (1 / max(d_k, e)) / sum_j (1 / max(d_j, e))`` with d_k the L1 distance to codeword k and
    ``e = (L + 1) (1 - p_top) / (p_top (K - 1))``, so that a word equal to a codeword gets about `top_probability`.
    """
    num_classes, length = code.shape
    floor = (length + 1) * (1 - top_probability) / (top_probability * (num_classes - 1))
    distance = (word[:, None, :] - code[None]).abs().sum(-1)  # (B, K)
    return torch.log_softmax(-distance.clamp(min=floor).log(), dim=1)
