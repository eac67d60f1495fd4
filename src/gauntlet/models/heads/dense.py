"""The dense layers that heads share."""

from __future__ import annotations

from torch import nn


def dense(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """One hidden layer with relu, or none where `hidden` is 0."""
    if hidden == 0:
        return nn.Sequential(nn.Linear(in_features, out_features))
    return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))
