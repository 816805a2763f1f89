"""The network's integer input: 8-bit integers as they are, wider ones scaled down."""

from __future__ import annotations

import math

import numpy as np

from ref.bounds import input_bounds
from ref.data import Data
from ref.errors import UserError
from ref.model import Input, Model, Tensor
from ref.run import quantize_input

from .calibrate import Calibration
from .dyadic import input_ratio
from .evaluate import evaluate, real_input
from .graph import FloatNetwork, FloatWindowed
from .layers import Quantized

#: Bits of the network's input.
INPUT_BITS = 8
#: Candidate ranges of a wide input, as shares of the largest calibrated magnitude.
CANDIDATES = np.linspace(0.3, 1.0, 15)


def make_input(network: FloatNetwork, calibration: Calibration, data: Data
               ) -> tuple[Input, Quantized]:
    """The rule that makes the input from a data file's integers, and the input's tensor.

    8-bit integers keep their form: scale and offset fold into the first layer. Wider ones become
    signed 8-bit integers unless all are 0 or more; their range is the one of `CANDIDATES` whose
    rounding and clipping change the float network's result least on the calibration data (one
    large coefficient of a keyword spotter's features would otherwise coarsen all others).
    Raises `UserError` when a layer pads it with a zero that no input integer stands for.
    """
    kind = np.iinfo(calibration.dtype)
    natural = kind.bits == INPUT_BITS
    signed = kind.min < 0 and (natural or float(calibration.input.lo.min()) < 0)
    rule, tensor = _rule(network, calibration, 1.0, signed)
    if not natural:
        largest = float(max(calibration.input.hi.max(), -calibration.input.lo.min()))
        if largest > tensor.hi:
            wanted = evaluate(network, real_input(network, data))
            errors = []
            for share in CANDIDATES:
                rule, tensor = _rule(network, calibration, largest * share / tensor.hi, signed)
                rounded = quantize_input(Model("input", rule, {tensor.name: tensor}, ()), data.x)
                result = evaluate(network, _dequantized(rule, rounded).astype(np.float32))
                errors.append(float(((result - wanted) ** 2).sum(dtype=np.float64)))
            best = float(CANDIDATES[int(np.argmin(errors))])
            rule, tensor = _rule(network, calibration, largest * best / tensor.hi, signed)
    return rule, _as_quantized(network, calibration, rule, tensor)


def _rule(network: FloatNetwork, calibration: Calibration, step: float, signed: bool
          ) -> tuple[Input, Tensor]:
    """The rule and tensor of an input whose integer stands for about ``step`` data integers."""
    multiplier, shift = input_ratio(step)
    rule = Input(network.input, calibration.dtype, multiplier, shift, calibration.x_scale,
                 calibration.x_zero_point, network.own_input_shape)
    scale = np.asarray(calibration.x_scale / math.ldexp(multiplier, -shift))
    return rule, Tensor(network.input, network.input_shape, INPUT_BITS, signed, scale)


def _dequantized(rule: Input, integers: np.ndarray) -> np.ndarray:
    """The real input (N, C, H, W) that the input's integers stand for."""
    ratio = math.ldexp(rule.multiplier, -rule.shift)
    zero, scale = (value.reshape(-1, 1, 1) for value in (rule.x_zero_point, rule.x_scale))
    return (integers / ratio - zero) * scale


def _as_quantized(network: FloatNetwork, calibration: Calibration, rule: Input, tensor: Tensor
                  ) -> Quantized:
    """The input tensor with the network's normalization folded into its step and zero."""
    ratio, statistics = math.ldexp(rule.multiplier, -rule.shift), calibration.input
    step = tensor.scale * network.input_gain
    zero = rule.x_zero_point * ratio - network.input_offset / step
    outside = np.abs(np.clip(np.rint(zero), tensor.lo, tensor.hi) - zero) > 1
    padding = next((layer for layer in network.readers(network.input)
                    if isinstance(layer, FloatWindowed) and any(layer.window.pads)), None)
    if outside.any() and padding is not None:
        raise UserError(f"layer {padding.name!r} pads the input with zero, which is integer "
                        f"{zero[outside][0]:g} of the input's {tensor.lo}..{tensor.hi}; store x "
                        "with a zero point inside")
    mean = (statistics.mean * ratio - zero) * step
    square = (statistics.square * ratio ** 2 - 2 * zero * statistics.mean * ratio
              + zero ** 2) * step ** 2
    return Quantized(tensor, step, zero, mean, square, input_bounds(rule, tensor))
