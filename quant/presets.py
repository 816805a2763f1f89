"""Presets: the named settings of the quantizer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ref.errors import UserError
from ref.model import LOW_BITS, MULTIPLIER_BITS

from .budget import budget_bits
from .dyadic import NARROW_BITS

#: What shares one weight step: the weights of an output channel, or all of a layer.
WEIGHT_SCALES = ("channel", "tensor")

#: What integers are stored as: equal steps, or superposed powers of two (`ref.ausn`).
CODES = ("linear", "ausn")
#: Weights may also have both: half of a layer's output channels each (`quant.lanes`).
WEIGHT_CODES = (*CODES, "mixed")

#: How weights become integers: each alone, or greedily on the calibration data.
ROUNDINGS = ("nearest", "greedy")

#: Settings that may differ from layer to layer. The others shape the whole network before a layer
#: is quantized: calibration and transfer work on maps between layers.
VARYING = ("weight_bits", "weight_code", "activation_bits", "activation_code",
           "rounding")


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a network is quantized.

    ``overrides`` are {regular expression: {setting: value}} of `VARYING` settings, and hold for
    the layers whose whole name the expression matches. All that match count; where two name the
    same setting the last wins.
    ``activation_bits`` are those of a layer's result.
    """

    weight_bits: int = 8                    # 2..8
    activation_bits: int = 8                # 2..8; AUSN: 2..7
    calibration: str = "mse"                # one of calibrate.METHODS
    #: TAIT's exponent t, or (t, u, v), each 0..1; or their search on each edge (see balance.py).
    transfer: float | tuple[float, ...] | Literal["search"] = 0.2
    weight_code: str = "linear"             # one of WEIGHT_CODES (see weights.py, lanes.py)
    activation_code: str = "linear"         # one of CODES, for maps without a sign
    weight_scale: str = "channel"           # one of WEIGHT_SCALES: a step per row or per layer
    bias_correction: bool = True
    rounding: str = "greedy"                # one of ROUNDINGS (see greedy.py)
    input_bits: int = 8                     # 8..15; above 8 in two planes (see input_rule.py)
    multiplier_bits: int = MULTIPLIER_BITS  # 15, or 1..8 and a power of two (see dyadic.py)
    accumulator_bits: int = 24              # 16..32, proved for every layer (see accumulators.py)
    wider_accumulators: bool = False        # where that cannot be: wider (True) or an error
    budget: str | None = None               # of all weights, as "60kB" or "4.5bits" (mixed.py)
    overrides: dict[str, dict[str, int | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values nothing is defined for with `UserError`."""
        if isinstance(self.transfer, list):             # as JSON has it in a model's metadata
            object.__setattr__(self, "transfer", tuple(self.transfer))
        for kind in ("weight", "activation"):
            bits = getattr(self, f"{kind}_bits")
            if type(bits) is not int or not 2 <= bits <= 8:
                raise UserError(f"{bits!r} {kind} bits are not supported; choose 2 to 8")
        if type(self.input_bits) is not int or not 8 <= self.input_bits <= 8 + LOW_BITS:
            raise UserError(f"{self.input_bits!r} input bits are not supported; choose 8 to "
                            f"{8 + LOW_BITS}")
        if type(self.multiplier_bits) is not int or (
                self.multiplier_bits not in (*NARROW_BITS, MULTIPLIER_BITS)):
            raise UserError(f"multipliers of {self.multiplier_bits!r} bits are not supported; "
                            f"choose {min(NARROW_BITS)} to {max(NARROW_BITS)}, or "
                            f"{MULTIPLIER_BITS}")
        if type(self.accumulator_bits) is not int or not 16 <= self.accumulator_bits <= 32:
            raise UserError(f"accumulators of {self.accumulator_bits!r} bits are not supported; "
                            "choose 16 to 32")
        if self.weight_scale not in WEIGHT_SCALES:
            raise UserError(f"the weight scale {self.weight_scale!r} is unknown; use one of "
                            f"{', '.join(WEIGHT_SCALES)}")
        for kind, known in (("weight", WEIGHT_CODES), ("activation", CODES)):
            code = getattr(self, f"{kind}_code")
            if code not in known:
                raise UserError(f"the {kind} code {code!r} is unknown; use one of "
                                f"{', '.join(known)}")
        if self.weight_code != "linear" and self.weight_bits < 3:
            raise UserError(f"AUSN weights of {self.weight_bits} bits do not exist; choose 3 to 8 "
                            "weight bits, or linear ones")
        if self.weight_code == "mixed" and (self.weight_scale != "channel" or self.budget):
            raise UserError("mixed weights have one step per output channel and one width; leave "
                            "out the weight scale and the budget, or choose linear or AUSN weights")
        if self.activation_code == "ausn" and self.activation_bits > 7:
            raise UserError(f"AUSN activations of {self.activation_bits} bits do not exist; choose "
                            "2 to 7 activation bits, or linear ones")
        if self.rounding not in ROUNDINGS:
            raise UserError(f"the rounding {self.rounding!r} is unknown; use one of "
                            f"{', '.join(ROUNDINGS)}")
        given = self.transfer if isinstance(self.transfer, tuple) else (self.transfer,)
        if self.transfer != "search" and not (1 <= len(given) <= 3 and all(
                isinstance(value, float | int) and 0 <= value <= 1 for value in given)):
            raise UserError(f"the transfer is {self.transfer!r}; give its exponent t, or t, u and "
                            "v, each between 0 and 1, or \"search\"")
        if self.budget is not None:
            budget_bits(self.budget, 1)
        for pattern, changes in self.overrides.items():
            self._check_override(pattern, changes)

    @property
    def exponents(self) -> tuple[float, ...] | None:
        """The transfer's exponents t, u and v where the user fixes them; u and v are 0 by default.
        """
        if isinstance(self.transfer, str):
            return None
        given = self.transfer if isinstance(self.transfer, tuple) else (self.transfer,)
        return (*given, 0.0, 0.0)[:3]

    def of(self, layer: str) -> Settings:
        """The settings of the layer of that name: these, with the overrides that match it."""
        changes: dict[str, Any] = {}
        for pattern, values in self.overrides.items():
            if re.fullmatch(pattern, layer):
                changes |= values
        return replace(self, overrides={}, **changes)

    def _check_override(self, pattern: str, changes: dict[str, Any]) -> None:
        """Refuse a pattern or setting that nothing is defined for with `UserError`."""
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"the override {pattern!r} is not a regular expression ({error}); "
                            "mend it") from None
        unknown = sorted(set(changes) - set(VARYING))
        if unknown or not changes:
            raise UserError(f"the override {pattern!r} sets "
                            f"{unknown[0] if unknown else 'nothing'}; a layer's own settings are "
                            f"{', '.join(VARYING)}")
        try:
            replace(self, overrides={}, **changes)
        except UserError as error:
            raise UserError(f"the override {pattern!r}: {error}") from None


#: Few weight bits get the search of the transfer, which weighs the weights' rounding against the
#: activations': signal over noise of SkyNet's confidences at 5 bits 15.9 instead of 15.5 dB, of the
#: scores at 4 bits 24.6 instead of 24.5 on KWS, 9.4 instead of 9.0 on MobileNetV1-0.25 and 14.9
#: instead of 15.0 on VWW with ReLU6; at 8 bits 22.5 instead of 23.4 on MobileNetV1-0.25.
#: "mixed4" is for lanes of both kinds: only the linear half of its weights asks for multipliers,
#: since requantizers shift. "mixed4a8" is for such lanes that multiply bytes; accuracy with the
#: search of the transfer 93.20 % on KWS and 73.23 % on VWW, without 92.40 and 72.59 %.
PRESETS = {f"w{bits}a8": Settings(weight_bits=bits) for bits in (8, 6)} | {
    f"w{bits}a8": Settings(weight_bits=bits, transfer="search") for bits in (5, 4)} | {
    "w4a4": Settings(weight_bits=4, activation_bits=4),
    "ausn5": Settings(weight_bits=5, weight_code="ausn"),
    "mixed4": Settings(weight_bits=4, activation_bits=4, weight_code="mixed",
                       activation_code="ausn", multiplier_bits=1, accumulator_bits=16),
    "mixed4a8": Settings(weight_bits=4, weight_code="mixed", transfer="search")}


def find_preset(name: str) -> Settings:
    """The settings called ``name``; `UserError` listing all names when there is none."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def with_settings(settings: Settings, **given: Any) -> Settings:
    """The settings with the fields ``given``, and what follows from them unless given too.

    A ``weight_scale`` per layer ("tensor") gets the search of the transfer, which it needs:
    measured on MobileNetV1-0.25-128 at 8 bits, of 44.33 % float: t = 0 15.00, t = 0.2 36.67, search
    45.00. A scale per channel keeps its exponent (search 44.00, t = 0.2 43.33).
    """
    follows = {"transfer": "search"} if given.get("weight_scale") == "tensor" else {}
    return replace(settings, **follows | given)
