"""Checking that an integer model is well formed and that its accumulator proofs are true."""

from __future__ import annotations

import math

import numpy as np

from .bounds import accumulator_bounds, layer_operands, propagate, signed_bits
from .data import DTYPES
from .errors import UserError
from .model import (
    BLOCK,
    LOW_BITS,
    MULTIPLIER_BITS,
    RESULT_BITS,
    SHIFTS,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
    Window,
)

#: Bits a bias and a proved accumulator may have.
WORD_BITS = 32


def check_model(model: Model) -> None:
    """Raise `UserError` naming the tensor or layer where ``model`` breaks a rule."""
    for key, tensor in model.tensors.items():
        _check_tensor(key, tensor, _most_bits(model, tensor))
    _check_input(model)
    _require(len(model.layers) > 0, "the model", "has no layers")
    defined = {model.input.tensor}
    names: set[str] = set()
    for layer in model.layers:
        where = f"layer {layer.name!r}"
        _require(layer.name not in names, where, "shares its name with another layer")
        for name in layer.inputs:
            _require(name in defined, where, f"reads {name!r}, which nothing before it makes")
        _require(layer.output in model.tensors, where, f"makes {layer.output!r} of unknown type")
        _require(layer.output not in defined, where, f"makes {layer.output!r} a second time")
        _check_layer(where, layer, [model.tensors[name] for name in layer.inputs],
                     model.tensors[layer.output])
        defined.add(layer.output)
        names.add(layer.name)
    unmade = sorted(set(model.tensors) - defined)
    _require(not unmade, "the model", f"lists tensors that no layer makes: {', '.join(unmade)}")
    _check_proofs(model)


def _require(condition: bool, where: str, what: str) -> None:
    """Raise the one sentence of this module unless ``condition`` holds."""
    if not condition:
        raise UserError(f"{where} {what}; quantize the network again")


def _most_bits(model: Model, tensor: Tensor) -> int:
    """Bits a tensor may have: more than 8 for a signed result that the last layer requantizes."""
    last = model.layers[-1] if model.layers else None
    wide = isinstance(last, Conv2d | AveragePool2d | Add) and last.output == tensor.name
    return RESULT_BITS if wide and tensor.signed else 8


def _check_tensor(key: str, tensor: Tensor, most_bits: int) -> None:
    """Shape, width and scale of one tensor."""
    where = f"tensor {key!r}"
    _require(tensor.name == key, where, f"calls itself {tensor.name!r}")
    _require(len(tensor.shape) == 3 and all(size >= 1 for size in tensor.shape), where,
             f"has shape {tensor.shape}, not (channels, height, width)")
    _require(2 <= tensor.bits <= most_bits, where,
             f"has {tensor.bits} bits, outside 2..{most_bits}")
    _check_real(where, "scale", tensor.scale, tensor.shape[0])
    _require(bool(np.all(tensor.scale > 0)), where, "has a scale that is not larger than 0")


def _check_input(model: Model) -> None:
    """The rule that turns data-file integers into the network's input."""
    rule, where = model.input, "the input"
    _require(rule.tensor in model.tensors, where, f"feeds {rule.tensor!r} of unknown type")
    _require(rule.dtype in DTYPES, where, f"has data type {rule.dtype!r}, not one of {DTYPES}")
    _require(1 <= rule.multiplier < 1 << MULTIPLIER_BITS, where,
             f"has multiplier {rule.multiplier}, outside 1..{(1 << MULTIPLIER_BITS) - 1}")
    _require(0 <= rule.shift <= max(SHIFTS), where, f"has shift {rule.shift}, outside 0..28")
    tensor = model.input_tensor
    _require(0 <= rule.low_bits <= LOW_BITS and (1 << rule.low_bits) - 1 <= tensor.hi, where,
             f"has a low plane of {rule.low_bits} bits, outside 0..{LOW_BITS}, or of more than its "
             f"tensor's {tensor.bits} hold")
    _require(not rule.low_bits or tensor.shape[0] % 2 == 0, where,
             f"has two planes in {tensor.shape[0]} channels")
    _require(len(rule.shape) > 0 and min(rule.shape) >= 1
             and math.prod(rule.shape) == math.prod(model.sample_shape), where,
             f"has samples of shape {rule.shape} for a map of {model.sample_shape}")
    channels = model.sample_shape[0]
    _check_real(where, "x_scale", rule.x_scale, channels)
    _check_real(where, "x_zero_point", rule.x_zero_point, channels)
    _require(bool(np.all(rule.x_scale > 0)), where, "has an x_scale that is not larger than 0")


def _check_layer(where: str, layer: Layer, sources: list[Tensor], result: Tensor) -> None:
    """One layer against the tensors it reads and makes."""
    count = len(sources)
    wanted = 2 if isinstance(layer, Add) else max(2, count) if isinstance(layer, Concat) else 1
    _require(count == wanted, where, f"has {count} inputs instead of {wanted}")
    match layer:
        case Conv2d() | AveragePool2d() | MaxPool2d():
            _check_windowed(where, layer, sources[0], result)
        case Add():
            _check_sum(where, layer, sources, result)
        case Concat():
            _require(all(source.shape[1:] == sources[0].shape[1:] for source in sources), where,
                     "joins maps of different sizes")
            shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
            _check_unchanged(where, layer, sources, result, shape, [
                np.broadcast_to(source.scale, source.shape[0]) for source in sources])
        case SpaceToDepth():
            channels, height, width = sources[0].shape
            _require(height % BLOCK == 0 and width % BLOCK == 0, where,
                     f"takes squares of 2x2 pixels from a map of odd size {height}x{width}")
            shape = (channels * BLOCK * BLOCK, height // BLOCK, width // BLOCK)
            _check_unchanged(where, layer, sources, result, shape, [
                np.tile(np.broadcast_to(sources[0].scale, channels), BLOCK * BLOCK)])
        case _:
            raise UserError(f"{where} is of unknown kind {type(layer).__name__}; quantize it again")


def _check_unchanged(where: str, layer: Layer, sources: list[Tensor], result: Tensor,
                     shape: tuple[int, int, int], scales: list[np.ndarray]) -> None:
    """A result that holds its operands' integers: ``scales`` are those of its channels."""
    kind = type(layer).__name__
    _require(all((source.bits, source.signed) == (result.bits, result.signed)
                 for source in sources), where,
             f"is a {kind}, and its result has another type than an input")
    _require(shape == result.shape, where,
             f"makes a map of shape {shape}, and {result.name!r} has {result.shape}")
    _require(np.array_equal(np.concatenate(scales), np.broadcast_to(result.scale, shape[0])),
             where, f"is a {kind}, and its result has another scale than an input")


def _check_sum(where: str, layer: Add, sources: list[Tensor], result: Tensor) -> None:
    """Shapes and constants of a sum of two maps."""
    _require(all(source.shape == result.shape for source in sources), where,
             f"adds maps of shapes {sources[0].shape} and {sources[1].shape} into {result.shape}")
    channels = result.shape[0]
    _require(layer.multiplier.shape == (2, channels), where,
             f"has multipliers of shape {layer.multiplier.shape}, not {(2, channels)}")
    for multiplier in layer.multiplier:
        _check_integers(where, "multiplier", multiplier, channels, 1, (1 << MULTIPLIER_BITS) - 1)
    _check_clip(where, layer, channels, result)


def _check_windowed(where: str, layer: Conv2d | AveragePool2d | MaxPool2d, source: Tensor,
                    result: Tensor) -> None:
    """A layer that slides a window over one map."""
    outputs = source.shape[0]
    if isinstance(layer, Conv2d):
        _check_convolution(where, layer, source)
        outputs = layer.weight.shape[0]
    elif isinstance(layer, MaxPool2d):
        _require((source.bits, source.signed) == (result.bits, result.signed), where,
                 "takes a maximum, and its result has another type than its input")
        _require(np.array_equal(source.scale, result.scale), where,
                 "takes a maximum, and its result has another scale than its input")
    _check_window(where, layer.window, source, isinstance(layer, MaxPool2d))
    shape = (outputs, *layer.window.output_size(*source.shape[1:]))
    _require(shape == result.shape, where,
             f"makes a map of shape {shape}, and {result.name!r} has {result.shape}")
    if isinstance(layer, Conv2d | AveragePool2d):
        _check_requantization(where, layer.requantization, outputs, result)


def _check_window(where: str, window: Window, source: Tensor, maximum: bool) -> None:
    """Sizes of a window, and that it fits into its padded input at least once."""
    _require(len(window.kernel) == 2 and len(window.stride) == 2 and len(window.pads) == 4
             and min(window.kernel + window.stride) >= 1 and min(window.pads) >= 0, where,
             f"has a malformed window {window}")
    _require(min(window.output_size(*source.shape[1:])) >= 1, where,
             f"has a window larger than its padded input {source.shape}")
    _require(not maximum or all(pad < size for pad, size in zip(window.pads, window.kernel * 2,
                                                                 strict=True)), where,
             "has windows that hold nothing but padding")


def _check_convolution(where: str, layer: Conv2d, source: Tensor) -> None:
    """Weights, groups and padding values of a convolution."""
    weight, channels = layer.weight, source.shape[0]
    code, bits = layer.weight_code, layer.weight_bits
    _require(2 <= bits <= 8, where, f"has {bits}-bit weights, outside 2..8")
    _require(code is None or code.bits == bits - 1, where,
             f"has {bits}-bit weights and a code of other width, {code}")
    dtype = np.dtype(np.int8) if code is None else code.dtype
    _require(weight.dtype == dtype and weight.ndim == 4 and weight.size > 0, where,
             f"has weights of {weight.dtype.name}, shape {weight.shape}, not {dtype.name} with "
             "four axes")
    _require(layer.groups >= 1 and channels % layer.groups == 0
             and weight.shape[0] % layer.groups == 0, where,
             f"has {layer.groups} groups, {channels} input and {weight.shape[0]} output channels")
    _require(weight.shape[1:] == (channels // layer.groups, *layer.window.kernel), where,
             f"has weights of shape {weight.shape} for {channels} input channels, {layer.groups} "
             f"groups and kernel {layer.window.kernel}")
    _require(layer.coded is None or (
        code is not None and layer.coded.dtype == np.bool_ and layer.coded.shape == weight.shape[:1]
    ), where, f"does not say of each of its {len(weight)} output channels whether it has a code")
    linear = (1 << (bits - 1)) - 1
    for coded, largest in ((False, linear), (True, linear if code is None else code.largest)):
        magnitudes = np.abs(weight[layer.coded_channels == coded].astype(np.int64))
        _require(int(magnitudes.max(initial=0)) <= largest, where,
                 f"has a weight outside -{largest}..{largest}, the narrow range of {bits} bits")
        _require(not coded or code is None or bool(np.isin(magnitudes, code.levels).all()), where,
                 f"has a weight that is no level of its code, {code}")
    _check_integers(where, "pad_value", layer.pad_value, channels, source.lo, source.hi)


def _check_requantization(where: str, rule: Requantization, outputs: int, result: Tensor) -> None:
    """Bias, multipliers, shift and clip bounds of a requantization."""
    word = 1 << (WORD_BITS - 1)
    _check_integers(where, "bias", rule.bias, outputs, -word, word - 1)
    _check_integers(where, "multiplier", rule.multiplier, outputs, 1, (1 << MULTIPLIER_BITS) - 1)
    if rule.multiplier_negative is not None:
        _check_integers(where, "multiplier_negative", rule.multiplier_negative, outputs, 0,
                        (1 << MULTIPLIER_BITS) - 1)
    _check_clip(where, rule, outputs, result)


def _check_clip(where: str, rule: Requantization | Add, outputs: int, result: Tensor) -> None:
    """Shift and clip bounds."""
    _require(rule.shift in SHIFTS, where, f"has shift {rule.shift}, not one of {SHIFTS}")
    _check_integers(where, "lo", rule.lo, outputs, result.lo, result.hi)
    _check_integers(where, "hi", rule.hi, outputs, result.lo, result.hi)
    _require(bool(np.all(rule.lo <= rule.hi)), where, "has a lower clip bound above the upper one")
    _require(rule.code is None or ((result.bits, result.signed) == (8, False)
                                   and rule.code.largest <= result.hi), where,
             f"rounds its result to levels of {rule.code} and not to unsigned bytes")


def _check_proofs(model: Model) -> None:
    """Recompute every layer's accumulator bounds and evaluate its witness."""
    bounds = propagate(model)
    for layer in model.layers:
        if not isinstance(layer, Conv2d | AveragePool2d):
            continue
        where, proof, source = f"layer {layer.name!r}", layer.proof, model.tensors[layer.inputs[0]]
        weight, bias, pad_value, groups = layer_operands(layer, source.shape[0])
        lows, highs = accumulator_bounds(weight, bias, *bounds[source.name], pad_value, groups)
        _require(proof.lo <= int(lows.min()) and int(highs.max()) <= proof.hi, where,
                 f"claims accumulators of {proof.lo}..{proof.hi}, and they reach "
                 f"{int(lows.min())}..{int(highs.max())}")
        _require(signed_bits(proof.lo, proof.hi) <= proof.bits <= WORD_BITS, where,
                 f"claims {proof.bits}-bit accumulators for {proof.lo}..{proof.hi} (limit "
                 f"{WORD_BITS})")
        _require(0 <= proof.channel < len(weight), where,
                 f"proves channel {proof.channel} of {len(weight)}")
        witness = proof.witness
        _require(witness.dtype.kind in "iu" and witness.shape == weight.shape[1:]
                 and source.lo <= int(witness.min()) and int(witness.max()) <= source.hi, where,
                 "has a witness that is not a window of its input")
        reached = int((weight[proof.channel].astype(np.int64) * witness).sum()
                      + bias[proof.channel])
        _require(reached == max(proof.hi, proof.lo, key=abs), where,
                 f"has a witness that reaches {reached}, not the larger of {proof.lo}, {proof.hi}")


def _check_integers(where: str, name: str, values: np.ndarray, count: int, lo: int, hi: int
                    ) -> None:
    """``values`` is int64 (count,) within ``[lo, hi]``."""
    _require(values.dtype == np.int64 and values.shape == (count,), where,
             f"has a {name} of {values.dtype.name}, shape {values.shape}, not {count} int64")
    _require(lo <= int(values.min()) and int(values.max()) <= hi, where,
             f"has a {name} outside {lo}..{hi}")


def _check_real(where: str, name: str, values: np.ndarray, channels: int) -> None:
    """``values`` is finite float64, () or (channels,)."""
    _require(isinstance(values, np.ndarray) and values.dtype == np.float64
             and values.shape in ((), (channels,)) and bool(np.isfinite(values).all()), where,
             f"has a {name} that is not one finite float64 or one per channel ({channels})")
