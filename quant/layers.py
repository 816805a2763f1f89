"""One float layer to one integer layer: constants, proof and what the layers after it need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ref.ausn import AusnCode
from ref.bounds import (
    Bounds,
    accumulator_proof,
    layer_bounds,
    signed_bits,
)
from ref.check import WORD_BITS
from ref.errors import UserError
from ref.model import (
    BLOCK,
    MULTIPLIER_BITS,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Requantization,
    SpaceToDepth,
    Tensor,
)

from .accumulators import LARGEST_LOSS, Reads, narrow
from .calibrate import Statistics
from .dyadic import (
    ANY_RATIO,
    Span,
    largest_ratio,
    narrow_ratios,
    requantizer_ratio,
    sum_ratios,
)
from .graph import (
    Activation,
    FloatAdd,
    FloatAveragePool,
    FloatConcat,
    FloatConv,
    FloatLayer,
    FloatMaxPool,
    FloatSpaceToDepth,
    Leaky,
    cap_of,
    is_rectified,
)
from .greedy import Moments
from .kept import kept_code, kept_ratio
from .multipliers import narrow_multipliers
from .presets import Settings
from .weights import LayerCode, LinearCode, MixedCode, best_code, round_weights, weight_codes

#: A channel whose products never move its result by this share of an output step is constant: its
#: weights become 0 and its accumulator step this share squared, which is all its bias needs.
INVISIBLE = 2.0 ** -5
#: Attempts to fit a channel's accumulator by coarser steps.
ATTEMPTS = 8
#: The least that a step grows by when a channel's sums turn out larger than foreseen.
COARSER = 1.02
#: Largest weight of a sum, by whether the layers' weights have more than four bits: one product of
#: 8-bit weights, or eight of 4-bit ones (`quant.dyadic.sum_multipliers`).
SUM_WEIGHTS = (8 * 7, 127)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A tensor of the integer model as the quantizer sees it, in the balanced network's units.

    The real value of channel c is ``(q - zero[c]) * step[c]``; ``step`` may be negative for the
    input only (a negative normalization). ``mean`` and ``square`` describe that real value.
    """

    tensor: Tensor
    step: np.ndarray                        # (C,) float64
    zero: np.ndarray                        # (C,) float64
    mean: np.ndarray                        # (C,) float64
    square: np.ndarray                      # (C,) float64
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Target:
    """What is asked of a layer's result: its type, steps and statistics, before any rounding."""

    name: str
    shape: tuple[int, int, int]
    bits: int
    signed: bool
    code: AusnCode | None                   # None: linear
    shared: bool                            # one step for all channels, exactly
    step: np.ndarray                        # (C,) float64, balanced units
    factor: np.ndarray | float              # balanced = factor * original, per channel
    statistics: Statistics                  # balanced units


def quantize_layer(layer: FloatLayer, sources: list[Quantized], target: Target, settings: Settings,
                   moments: Moments | None = None, coded: np.ndarray | None = None,
                   span: Span = ANY_RATIO) -> tuple[Layer, Quantized, int]:
    """The integer layer of a float layer of the balanced network, and its result.

    With ``moments`` of a convolution's inputs its weights are rounded greedily. ``coded`` (O,) are
    the channels of mixed weights that have a code, and narrow multipliers' ratios lie within
    ``span``. The third value is how many channels have coarser weights than asked for, because the
    accumulator is narrow.

    Raises `UserError` naming a layer whose accumulator cannot be made to fit.
    """
    if isinstance(layer, FloatConv):
        return _convolution(layer, sources[0], target, settings, moments, coded, span)
    if isinstance(layer, FloatAveragePool):
        return *_average_pool(layer, sources[0], target, settings, span), 0
    if isinstance(layer, FloatAdd):
        return *_sum(layer, sources, target, settings), 0
    step, zero = (np.concatenate([getattr(source, name) for source in sources])
                  for name in ("step", "zero"))
    made: Layer
    if isinstance(layer, FloatMaxPool):
        made = MaxPool2d(layer.name, layer.inputs, layer.output, layer.window)
    elif isinstance(layer, FloatConcat):
        made = Concat(layer.name, layer.inputs, layer.output)
    elif isinstance(layer, FloatSpaceToDepth):
        made = SpaceToDepth(layer.name, layer.inputs, layer.output)
        step, zero = np.tile(step, BLOCK ** 2), np.tile(zero, BLOCK ** 2)
    else:
        raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")
    return made, _result(made, sources, target, step, sources[0].tensor.signed, zero), 0


def _convolution(layer: FloatConv, source: Quantized, target: Target, settings: Settings,
                 moments: Moments | None, coded: np.ndarray | None, span: Span
                 ) -> tuple[Conv2d, Quantized, int]:
    """Weights for a realized dyadic ratio, integer bias, clip bounds and proof.

    Weights that came as integers stay where ratio and accumulator allow (see `quant.kept`). Also
    how many channels have a coarser step to fit the accumulator.
    """
    kept = layer.weight_step is not None
    pad_value = np.clip(np.rint(source.zero), source.tensor.lo, source.tensor.hi).astype(np.int64)
    padded = pad_value if any(layer.window.pads) else None
    inputs = layer.input_of_output                              # (O, I / groups)
    weight = layer.weight * source.step[inputs][:, :, None, None]
    reads = _reads(layer, source, padded)
    rows = weight.reshape(len(weight), -1)
    code, unit = _code(rows, reads.energy, layer, source, settings, coded)
    limit = min(largest_ratio(settings.multiplier_bits), span[1])
    step = np.maximum(target.step, unit / limit)
    if target.shared:
        step = np.full_like(step, step.max())
    moved = (np.abs(rows) * np.maximum(np.abs(reads.lo - reads.zero),
                                       np.abs(reads.hi - reads.zero))).sum(axis=1)
    if not kept:
        unit = np.where(moved < step * INVISIBLE, step * INVISIBLE ** 2, unit)
    for bits in (settings.accumulator_bits, *(WORD_BITS,) * settings.wider_accumulators):
        word = 1 << (bits - 1)
        narrowed = narrow(rows, unit, code, reads, word)
        lost = np.where(narrowed.error > step / 2, narrowed.loss, 0.0)
        worst = int(lost.argmax())
        if lost[worst] <= LARGEST_LOSS:
            break
    else:
        needed = signed_bits(0, int(narrowed.needed.max()) - 1)
        raise UserError(
            f"layer {layer.name!r} needs an accumulator of {needed} bits, and in "
            f"{settings.accumulator_bits} bits the weights of channel {worst} would keep less than "
            "2 bits are worth; use fewer weight or activation bits there, or allow wider ones "
            "(wider_accumulators)")
    unit = narrowed.step
    for attempt in range(ATTEMPTS):
        step = np.maximum(step, unit / limit)
        if target.shared:
            step = np.full_like(step, step.max())
        if kept:
            multiplier, shift, unit = kept_ratio(unit, step, target.statistics)
        else:
            if settings.multiplier_bits < MULTIPLIER_BITS:
                multiplier, shift = narrow_multipliers(rows, unit, step, code, reads.energy,
                                                       settings.multiplier_bits, attempt > 0, span)
            else:
                multiplier, shift = requantizer_ratio(np.minimum(unit / step, limit))
            unit = multiplier * 2.0 ** -shift * step            # the realized one
        integers, bias = _rounded(weight, unit, code, layer, source, settings, moments)
        reach, bias = reads.reach(integers.reshape(rows.shape), bias)
        if (reach <= word).all():
            break
        unit = np.where(reach > word, unit * np.maximum(reach / word, COARSER), unit)
    else:
        raise UserError(
            f"the accumulator of layer {layer.name!r} (channel {int(reach.argmax())}) reaches "
            f"{reach.max():.3g}, beyond {bits} bits; use fewer weight or activation bits")
    lo, hi = _limits(target, layer.activation, step)
    negative = None
    if isinstance(layer.activation, Leaky):
        if settings.multiplier_bits < MULTIPLIER_BITS:
            raise UserError(f"layer {layer.name!r} has a leaky ReLU, whose second multiplier has "
                            f"{MULTIPLIER_BITS} bits; leave out the multiplier bits, or choose "
                            "another preset")
        negative = np.minimum(np.rint(layer.activation.slope * multiplier),
                              (1 << MULTIPLIER_BITS) - 1).astype(np.int64)
    whole = integers.astype(code.dtype), bias.astype(np.int64)
    made = Conv2d(
        layer.name, layer.inputs, layer.output, whole[0],
        code.weight_bits if isinstance(code, LinearCode) else settings.weight_bits, layer.window,
        layer.groups, pad_value, Requantization(whole[1], multiplier, shift, lo, hi, negative,
                                                  target.code),
        accumulator_proof(*whole, *source.bounds, padded, layer.groups),
        code.ausn if isinstance(code, MixedCode) else code if isinstance(code, AusnCode) else None,
        code.coded if isinstance(code, MixedCode) else None)
    return (made, _result(made, [source], target, step, target.signed),
            int((narrowed.needed > word).sum()))


def _reads(layer: FloatConv, source: Quantized, padded: np.ndarray | None) -> Reads:
    """What each weight of a layer meets; ``padded`` (I,) is what padding writes, if anything."""
    def rows(values: np.ndarray) -> np.ndarray:
        shape = layer.weight.shape
        return np.broadcast_to(values[:, :, None, None], shape).reshape(shape[0], -1)

    inputs = layer.input_of_output
    lo, hi = source.bounds
    if padded is not None:
        lo, hi = np.minimum(lo, padded), np.maximum(hi, padded)
    return Reads(rows(lo[inputs]), rows(hi[inputs]), rows(source.zero[inputs]),
                 rows((source.square / source.step ** 2)[inputs]), layer.bias,
                 is_rectified(layer.activation))


def _sum(layer: FloatAdd, sources: list[Quantized], target: Target, settings: Settings
         ) -> tuple[Add, Quantized]:
    """Each operand's multiplier is its step over the result's, as closely as hardware allows."""
    steps = np.array([source.step for source in sources])
    largest = SUM_WEIGHTS[settings.weight_bits > 4]
    multiplier, shift, step = sum_ratios(steps, target.step, target.shared, largest)
    lo, hi = _limits(target, layer.activation, step)
    made = Add(layer.name, layer.inputs, layer.output, multiplier, shift, lo, hi, target.code)
    return made, _result(made, sources, target, step, target.signed)


def _rounded(weight: np.ndarray, unit: np.ndarray, code: LayerCode, layer: FloatConv,
             source: Quantized, settings: Settings, moments: Moments | None
             ) -> tuple[np.ndarray, np.ndarray]:
    """Integers of ``weight`` (O, ...), which holds the input's steps; the bias unrounded, (O,)."""
    if moments is not None:
        integers = moments.round(weight, unit, code)
        return integers, layer.bias / unit + moments.bias(weight, integers, unit)
    integers = round_weights(weight, unit, code)
    inputs = layer.input_of_output
    bias = layer.bias / unit - np.einsum("oi,oi->o", integers.sum(axis=(2, 3)),
                                         source.zero[inputs])
    if settings.bias_correction:
        lost = (weight / unit[:, None, None, None] - integers).sum(axis=(2, 3))
        bias += np.einsum("oi,oi->o", lost, (source.mean / source.step)[inputs])
    return integers, bias


def _code(weight: np.ndarray, energy: np.ndarray, layer: FloatConv, source: Quantized,
          settings: Settings, coded: np.ndarray | None) -> tuple[LayerCode, np.ndarray]:
    """The code of the rows of ``weight`` (O, K), and the accumulator step of each, (O,).

    ``weight`` holds the input's steps. Of the codes that the settings allow the best is taken (see
    `quant.weights.best_code`), of mixed weights for the rows that are ``coded``. With one weight
    step per layer a depthwise layer's rows keep their input channel's own step.
    """
    if layer.weight_step is not None:
        return kept_code(layer, source.step)
    linear = LinearCode(settings.weight_bits)
    if coded is not None:
        step = best_code((linear,), weight, energy)[1]
        if not coded.any():
            return linear, step
        ausn, step[coded], _ = best_code(weight_codes(settings), weight[coded], energy[coded])
        assert isinstance(ausn, AusnCode)
        return MixedCode(coded, ausn, linear), step
    gain = np.ones((len(weight), 1))
    if settings.weight_scale == "tensor":
        gain = np.abs(source.step)[layer.input_of_output].mean(axis=1, keepdims=True)
        if not layer.channelwise:
            gain = np.full_like(gain, gain.mean())
        weight, energy = (weight / gain).reshape(1, -1), (energy * gain ** 2).reshape(1, -1)
    code, step, _ = best_code(weight_codes(settings), weight, energy)
    return code, step * gain[:, 0]


def _average_pool(layer: FloatAveragePool, source: Quantized, target: Target, settings: Settings,
                  span: Span) -> tuple[AveragePool2d, Quantized]:
    """A sum whose multiplier holds 1/N: the realized ratio decides the result's step exactly.

    Narrow multipliers are the nearest by their logarithm: too large a ratio clips, too small a one
    rounds more.
    """
    size = layer.window.kernel[0] * layer.window.kernel[1]
    wanted = np.minimum(source.step / size / target.step, largest_ratio(settings.multiplier_bits))
    if target.shared:
        wanted = np.full_like(wanted, wanted.min())
    if settings.multiplier_bits < MULTIPLIER_BITS:
        near, shift = narrow_ratios(wanted, settings.multiplier_bits, span)
        nearest = np.abs(np.log2(near * 2.0 ** -shift / wanted)).argmin(axis=0)
        multiplier = near[nearest, np.arange(len(wanted))]
    else:
        # maps that came quantized ask for a multiplier's own ratio, but for float32's rounding
        multiplier, shift = requantizer_ratio(wanted * (1 - 2.0 ** -22))
    step = source.step / size / (multiplier * 2.0 ** -shift)
    zeros = np.zeros(len(step), np.int64)
    lo, hi = _limits(target, None, step)
    requantization = Requantization(zeros, multiplier, shift, lo, hi, code=target.code)
    ones = np.ones((len(step), 1, *layer.window.kernel), np.int8)
    padded = zeros if any(layer.window.pads) else None
    proof = accumulator_proof(ones, zeros, *source.bounds, padded, len(step))
    limit = WORD_BITS if settings.wider_accumulators else settings.accumulator_bits
    if proof.bits > limit:
        raise UserError(f"layer {layer.name!r} needs an accumulator of {proof.bits} bits, and "
                        f"{limit} are allowed; use a smaller pooling window or fewer activation "
                        "bits, or allow wider ones (wider_accumulators)")
    made = AveragePool2d(layer.name, layer.inputs, layer.output, layer.window, requantization,
                         proof)
    return made, _result(made, [source], target, step, target.signed)


def _limits(target: Target, activation: Activation, step: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Clip bounds per channel: the type's own, or those of a rectifier and of its cap."""
    lo = -(1 << (target.bits - 1)) if target.signed and not is_rectified(activation) else 0
    hi = (1 << (target.bits - int(target.signed))) - 1
    upper = np.clip(np.rint(np.minimum(cap_of(activation) / step, hi)), lo, hi)
    return np.full(len(step), lo, np.int64), upper.astype(np.int64)


def _result(layer: Layer, sources: list[Quantized], target: Target, step: np.ndarray, signed: bool,
            zero: np.ndarray | None = None) -> Quantized:
    """The layer's result, its scale in the original network's units; ``zero`` is 0 unless given."""
    scale = step / target.factor
    if (scale == scale[0]).all():
        scale = np.array(scale[0])
    tensor = Tensor(target.name, target.shape, target.bits, signed, scale)
    statistics = target.statistics
    return Quantized(tensor, step, np.zeros(len(step)) if zero is None else zero, statistics.mean,
                     statistics.square, layer_bounds(layer, *(one.bounds for one in sources)))
