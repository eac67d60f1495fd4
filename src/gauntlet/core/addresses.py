"""Seeds and numbers by address: pure functions of their purpose, without torch."""

from __future__ import annotations

import hashlib


def derive_seed(*address: str | int) -> int:
    """Hash an address to a seed in [0, 2^63)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in address)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def unit_number(*address: str | int) -> float:
    """Hash an address to a number uniform in [0, 1), a multiple of 2^-53."""
    return (derive_seed(*address) >> 10) / (1 << 53)
