"""Presets: the named settings of the quantizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ref.errors import UserError

#: What shares one weight step: the weights of an output channel, or all of a layer.
WEIGHT_SCALES = ("channel", "tensor")

#: How weights become integers: each alone, or greedily on the calibration data.
ROUNDINGS = ("nearest", "greedy")


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a network is quantized."""

    weight_bits: int = 8                    # 2..8
    activation_bits: int = 8                # 2..8
    calibration: str = "mse"                # one of calibrate.METHODS
    transfer: float | Literal["search"] = 0.2   # TAIT's exponent t, 0..1 (see balance.py)
    weight_scale: str = "channel"           # one of WEIGHT_SCALES: a step per row or per layer
    bias_correction: bool = True
    rounding: str = "nearest"               # one of ROUNDINGS (see greedy.py)

    def __post_init__(self) -> None:
        """Refuse values nothing is defined for with `UserError`."""
        if self.weight_scale not in WEIGHT_SCALES:
            raise UserError(f"the weight scale {self.weight_scale!r} is unknown; use one of "
                            f"{', '.join(WEIGHT_SCALES)}")
        if self.rounding not in ROUNDINGS:
            raise UserError(f"the rounding {self.rounding!r} is unknown; use one of "
                            f"{', '.join(ROUNDINGS)}")
        if self.transfer != "search" and not (
                isinstance(self.transfer, float | int) and 0 <= self.transfer <= 1):
            raise UserError(f"the transfer exponent t is {self.transfer}; choose it between 0 and "
                            "1, or \"search\"")


#: Greedy rounding from this many weight bits down: at 8 bits nearest rounding is as good or better.
GREEDY_BITS = 6
PRESETS = {f"w{bits}a8": Settings(weight_bits=bits,
                                  rounding="greedy" if bits <= GREEDY_BITS else "nearest")
           for bits in (8, 6, 5, 4)}


def find_preset(name: str) -> Settings:
    """The settings called ``name``; `UserError` listing all names when there is none."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def with_weight_scale(settings: Settings, weight_scale: str,
                      transfer: float | Literal["search"] | None = None) -> Settings:
    """The settings with another weight scale and transfer.

    Without ``transfer`` a scale per layer ("tensor") gets the search, which it needs: measured on
    MobileNetV1-0.25-128 at 8 bits, of 44.33 % float: t = 0 15.00, t = 0.2 36.67, search 45.00.
    A scale per channel keeps its exponent (search 44.00, t = 0.2 43.33, but 1.7 dB more noise).
    """
    if transfer is None:
        transfer = "search" if weight_scale == "tensor" else settings.transfer
    return replace(settings, weight_scale=weight_scale, transfer=transfer)
