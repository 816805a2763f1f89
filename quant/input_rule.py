"""The network's integer input: 8-bit integers as they are, wider ones rounded or in two planes."""

from __future__ import annotations

import math

import numpy as np

from ref.bounds import input_bounds, signed_bits
from ref.data import Data
from ref.errors import UserError
from ref.layers import quantize_input
from ref.model import Input, Model, Tensor

from .calibrate import Calibration
from .dyadic import input_ratio
from .evaluate import evaluate, real_input
from .graph import FloatNetwork, FloatWindowed
from .layers import Quantized
from .planes import low_plane_bits
from .presets import Settings

#: Bits of the network's input, of each plane of it.
INPUT_BITS = 8
#: Candidate ranges of a wide input, as shares of the largest calibrated magnitude.
CANDIDATES = np.linspace(0.3, 1.0, 15)      # the last is the whole range
#: Calibration samples that the float network is evaluated on for each of them.
SEARCHED_SAMPLES = 64


def make_input(network: FloatNetwork, calibration: Calibration, data: Data,
               settings: Settings) -> tuple[Input, Quantized]:
    """The rule that makes the input from a data file's integers, and the input's tensor.

    8-bit integers keep their form: scale and offset fold into the first layer. Wider ones become
    signed 8-bit integers unless all are 0 or more; with ``settings.input_bits`` above 8 and where
    it pays they keep more bits, in two planes (see `quant.planes`). A calibrated range that needs
    still more bits is divided by a step: that of `CANDIDATES` whose rounding and clipping change
    the float network's result least on the calibration data (one large coefficient of a keyword
    spotter's features would otherwise coarsen all others); the whole range with the method "max".
    Raises `UserError` when a layer pads it with a zero that no input integer stands for.
    """
    kind = np.iinfo(calibration.dtype)
    natural = kind.bits == INPUT_BITS
    lowest, highest = int(calibration.input.lo.min()), int(calibration.input.hi.max())
    signed = kind.min < 0 and (natural or lowest < 0)
    needed = signed_bits(lowest, highest) - int(not signed)
    low_bits = 0 if natural else low_plane_bits(network, needed, settings)
    rule, tensor = _rule(network, calibration, 1.0, signed, low_bits)
    if not natural and needed > INPUT_BITS + low_bits:
        largest, reach = max(highest, -lowest), (tensor.hi + 1 << low_bits) - 1
        few = data.head(SEARCHED_SAMPLES)
        wanted = evaluate(network, real_input(network, few))
        shares = CANDIDATES[-1:] if calibration.method == "max" else CANDIDATES
        errors = []
        for share in shares:
            rule, tensor = _rule(network, calibration, largest * share / reach, signed, low_bits)
            rounded = quantize_input(Model("input", rule, {tensor.name: tensor}, ()), few.x)
            result = evaluate(network, _dequantized(rule, rounded).astype(np.float32))
            errors.append(float(((result - wanted) ** 2).sum(dtype=np.float64)))
        best = float(shares[int(np.argmin(errors))])
        rule, tensor = _rule(network, calibration, largest * best / reach, signed, low_bits)
    return rule, _as_quantized(network, calibration, data, rule, tensor)


def input_steps(network: FloatNetwork, rule: Input) -> tuple[np.ndarray, np.ndarray]:
    """Step and zero of each plane of the input as layers of a ``network`` of one plane read it.

    The real value of integer q of plane p is ``(q - zero[p]) * step[p]``.
    """
    ratio = math.ldexp(rule.multiplier, -rule.shift)
    step = rule.x_scale / ratio * network.input_gain
    zero = rule.x_zero_point * ratio - network.input_offset / step
    if rule.low_bits:
        planes = 1 << rule.low_bits
        high = np.rint(zero) // planes
        zero = _planes(high, zero - high * planes, len(zero))
        step = _planes(step * planes, step, len(step))
    return step, zero


def traced_input(network: FloatNetwork, data: Data, rule: Input, tensor: Tensor
                 ) -> tuple[np.ndarray, np.ndarray]:
    """The real input (N, C, H, W) of the layers of a ``network`` of one plane, and its integers.

    It is what the integers stand for: the range that a wide input was given loses what the
    network's result does not depend on, and no layer's weights should try to win it back. Of two
    planes the high one's real values are those of its integers, the low one's all the rest.
    """
    integer = quantize_input(Model("input", rule, {tensor.name: tensor}, ()), data.x)
    real = (_dequantized(rule, integer) * network.input_gain.reshape(-1, 1, 1)
            + network.input_offset.reshape(-1, 1, 1))
    if rule.low_bits:
        step, zero = (values[::2].reshape(-1, 1, 1) for values in input_steps(network, rule))
        high = (integer[:, ::2] - zero) * step
        real = np.stack([high, real - high], axis=2).reshape(integer.shape)
    return real.astype(np.float32), integer.astype(np.int16)


def _rule(network: FloatNetwork, calibration: Calibration, step: float, signed: bool, low_bits: int
          ) -> tuple[Input, Tensor]:
    """The rule and tensor of an input whose (low) integer stands for about ``step`` data integers.
    """
    multiplier, shift = input_ratio(step)
    rule = Input(network.input, calibration.dtype, multiplier, shift, calibration.x_scale,
                 calibration.x_zero_point, network.own_input_shape, low_bits)
    scale = np.asarray(calibration.x_scale / math.ldexp(multiplier, -shift))
    channels, height, width = network.input_shape
    if low_bits:
        scale = _planes(scale * (1 << low_bits), scale, channels)
    planes = 2 if low_bits else 1
    return rule, Tensor(network.input, (channels * planes, height, width), INPUT_BITS, signed,
                        scale)


def _planes(high: np.ndarray, low: np.ndarray, channels: int) -> np.ndarray:
    """Numbers of the high and the low planes, () or (C,) each, in the order of planes, (2 C,)."""
    return np.stack([np.broadcast_to(part, channels) for part in (high, low)], axis=1).ravel()


def _dequantized(rule: Input, integers: np.ndarray) -> np.ndarray:
    """The real input (N, C, H, W) that the input's integers stand for."""
    ratio = math.ldexp(rule.multiplier, -rule.shift)
    if rule.low_bits:
        integers = (integers[:, ::2] << rule.low_bits) + integers[:, 1::2]
    zero, scale = (value.reshape(-1, 1, 1) for value in (rule.x_zero_point, rule.x_scale))
    return (integers / ratio - zero) * scale


def _as_quantized(network: FloatNetwork, calibration: Calibration, data: Data, rule: Input,
                  tensor: Tensor) -> Quantized:
    """The input tensor with the network's normalization folded into its step and zero."""
    ratio, statistics = math.ldexp(rule.multiplier, -rule.shift), calibration.input
    step, zero = input_steps(network, rule)
    planes = 1 << rule.low_bits
    whole = zero[::2] * planes + zero[1::2] if rule.low_bits else zero
    outside = np.abs(np.clip(np.rint(whole), tensor.lo * planes, (tensor.hi + 1) * planes - 1)
                     - whole) > 1
    padding = next((layer for layer in network.readers(network.input)
                    if isinstance(layer, FloatWindowed) and any(layer.window.pads)), None)
    if outside.any() and padding is not None:
        raise UserError(f"layer {padding.name!r} pads the input with zero, which is integer "
                        f"{whole[outside][0]:g} of the input's {tensor.lo * planes}.."
                        f"{(tensor.hi + 1) * planes - 1}; store x with a zero point inside")
    if rule.low_bits:
        q = quantize_input(Model("input", rule, {tensor.name: tensor}, ()), data.x)
        q = q - zero.reshape(-1, 1, 1)
        mean, square = (q.mean(axis=(0, 2, 3)) * step, (q ** 2).mean(axis=(0, 2, 3)) * step ** 2)
    else:
        mean = (statistics.mean * ratio - zero) * step
        square = (statistics.square * ratio ** 2 - 2 * zero * statistics.mean * ratio
                  + zero ** 2) * step ** 2
    return Quantized(tensor, step, zero, mean, square, input_bounds(rule, tensor))
