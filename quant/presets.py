"""Presets: the named settings of the quantizer."""

from __future__ import annotations

from dataclasses import dataclass

from ref.errors import UserError


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a network is quantized."""

    weight_bits: int = 8                    # 2..8
    activation_bits: int = 8                # 2..8
    calibration: str = "mse"                # one of calibrate.METHODS
    transfer: float = 0.2                   # TAIT's exponent t, 0..1 (see balance.py)
    bias_correction: bool = True


PRESETS = {f"w{bits}a8": Settings(weight_bits=bits) for bits in (8, 6, 5, 4)}


def find_preset(name: str) -> Settings:
    """The settings called ``name``; `UserError` listing all names when there is none."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[name]
