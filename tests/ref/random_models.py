"""Random small integer models of every layer kind, for the tests of all rooms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies

from ref import (
    Add,
    AusnCode,
    AveragePool2d,
    Concat,
    Conv2d,
    Input,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
    Window,
    accumulator_proof,
    check_model,
    input_bounds,
    layer_bounds,
)
from ref.ausn import EXPONENT_BITS, MAGNITUDE_BITS
from ref.bounds import Bounds, accumulator_bounds
from ref.model import BLOCK, GUARD_BITS, LOW_BITS, MULTIPLIER_BITS, SHIFTS

#: Kinds of layer that a chain may hold.
KINDS = ("dense", "depthwise", "pointwise", "grouped", "maximum", "average")
#: The same and what branches: sums and concatenations of a map with one made from it or with any
#: earlier one that fits, squares to channels, leaky ReLU and AUSN weights in all or some channels
#: of the convolutions.
GRAPH_KINDS = (*KINDS, "leaky", "ausn", "mixed", "add", "concat", "squares")
#: Every AUSN code, all of which weights may have, and those of activations.
AUSN_CODES = tuple(AusnCode(exponent, superposition) for exponent in EXPONENT_BITS
                   for superposition in range(MAGNITUDE_BITS - exponent + 1))
BYTE_CODES = tuple(code for code in AUSN_CODES if code.largest < 256)


def random_model(rng: np.random.Generator, layers: int | None = None,
                 kinds: tuple[str, ...] = KINDS, channels: int = 20, size: int = 12,
                 fully_connected: bool = True, shift: int | None = None,
                 bits: int | None = None, identity_input: bool | None = None,
                 result_bits: int | None = None) -> Model:
    """A well-formed model of ``layers`` random layers (default 1..4) of the given ``kinds``.

    Maps have at most ``channels`` channels and ``size`` x ``size`` pixels, kernels at most 5x5,
    strides 1..3, paddings smaller than the kernel and different on every side. Tensors have
    2..8 bits (all ``bits`` when given), signed or not; data come in one plane or two. With
    ``fully_connected`` a last layer reduces the map to a vector. ``shift`` fixes every
    requantization's shift; ``identity_input`` decides whether the data are already the integer
    input (default: either). ``result_bits`` makes the network's result, if a convolution or average
    pool makes it, signed and that wide. Equal generators give equal models.
    """
    smallest = int(rng.choice([1, size // 2 + 1]))
    shape = (int(rng.integers(1, channels + 1)), *map(int, rng.integers(smallest, size + 1, 2)))
    if identity_input is None:
        identity_input = bool(rng.integers(2))
    planes = not identity_input and bool(rng.integers(2))
    if planes:
        shape = (max(2, shape[0] // 2 * 2), *shape[1:])
    source = _tensor(rng, "input", shape, bits)
    low_bits = 0
    if identity_input:
        source = replace(source, bits=8 if bits is None else bits)
        dtype, multiplier, input_shift = ("int8" if source.signed else "uint8"), 1, 0
    else:
        if planes:
            low_bits = int(rng.integers(1, min(LOW_BITS, source.bits - source.signed) + 1))
        dtype = str(rng.choice(["int8", "uint8", "int16", "uint16", "int32"]))
        excess = min(max(np.iinfo(dtype).bits - source.bits - low_bits, 0), max(SHIFTS))
        input_shift = int(rng.integers(excess, min(max(SHIFTS), excess + MULTIPLIER_BITS - 2) + 1))
        multiplier = int(rng.integers(1, 2 << (input_shift - excess)))
    samples = (shape[0] // 2 if low_bits else shape[0], *shape[1:])
    rule = Input("input", dtype, multiplier, input_shift, np.array(0.5), np.array(0.0),
                 samples[:1] if shape[1:] == (1, 1) else samples, low_bits)
    tensors, chain, bounds = {"input": source}, [], {"input": input_bounds(rule, source)}
    count = int(rng.integers(1, 5)) if layers is None else layers
    total = count + int(fully_connected)
    for index in range(total):
        last = fully_connected and index == count
        kind = "vector" if last else str(rng.choice(kinds))
        if kind in ("add", "concat", "squares"):
            made = _joined(rng, kind, f"layer{index}", source, tensors, bounds, shift)
        else:
            made = [_layer(rng, kind, f"layer{index}", source, bounds[source.name], channels, bits,
                           shift, result_bits=result_bits if index + 1 == total else None)]
        for layer, result in made:
            tensors[result.name] = result
            chain.append(layer)
            bounds[result.name] = layer_bounds(layer, *(bounds[name] for name in layer.inputs))
            source = result
    model = Model("random", rule, tensors, tuple(chain))
    check_model(model)
    return model


def random_samples(rng: np.random.Generator, model: Model, samples: int = 2) -> np.ndarray:
    """Data-file integers (samples, C, H, W) for a model: extremes and everything between."""
    limits = np.iinfo(model.input.dtype)
    x = rng.integers(limits.min, limits.max, (samples, *model.sample_shape), endpoint=True,
                     dtype=model.input.dtype)
    x[rng.random(x.shape) < 0.1] = limits.max
    x[rng.random(x.shape) < 0.1] = limits.min
    return x


@strategies.composite
def models(draw: strategies.DrawFn, **options) -> tuple[Model, np.ndarray]:
    """Hypothesis: a model of `random_model` (which takes ``options``) and two samples for it."""
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32 - 1)))
    model = random_model(rng, **options)
    return model, random_samples(rng, model)


def _tensor(rng: np.random.Generator, name: str, shape: tuple[int, int, int], bits: int | None
            ) -> Tensor:
    """A tensor of random width, sign and scale."""
    scale = rng.uniform(0.01, 2, () if rng.integers(2) else (shape[0],))
    return Tensor(name, shape, bits or int(rng.integers(2, 9)), bool(rng.integers(2)),
                  np.array(scale))


def _window(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> Window:
    """A window that fits into its padded input at least once."""
    if kind == "vector":
        return Window((shape[1], shape[2]))
    stride = tuple(map(int, rng.choice([1, 1, 1, 2, 3], 2)))
    if kind == "pointwise":
        return Window((1, 1), stride)
    kernel = tuple(map(int, rng.integers(1, 6, 2)))
    pads = [int(rng.integers(0, size)) if rng.integers(2) else 0 for size in kernel * 2]
    kernel = tuple(min(size, extent + before + after) for size, extent, before, after
                   in zip(kernel, shape[1:], pads[:2], pads[2:], strict=True))
    pads = [min(pad, size - 1) for pad, size in zip(pads, kernel * 2, strict=True)]
    kernel = tuple(min(size, extent + before + after) for size, extent, before, after
                   in zip(kernel, shape[1:], pads[:2], pads[2:], strict=True))
    pads = [min(pad, size - 1) for pad, size in zip(pads, kernel * 2, strict=True)]
    return Window(kernel, stride, tuple(pads))


def _joined(rng: np.random.Generator, kind: str, name: str, source: Tensor,
            tensors: dict[str, Tensor], bounds: dict[str, Bounds], shift: int | None
            ) -> list[tuple[Layer, Tensor]]:
    """A layer that moves squares or joins ``source`` with another map, and that map where new."""
    output, (channels, height, width) = f"{name}_output", source.shape
    if kind == "squares":
        if height % BLOCK or width % BLOCK:
            kind = "add"
        else:
            scale = source.scale if source.scale.ndim == 0 else np.tile(source.scale, BLOCK ** 2)
            shape = (channels * BLOCK ** 2, height // BLOCK, width // BLOCK)
            return [(SpaceToDepth(name, (source.name,), output),
                     replace(source, name=output, shape=shape, scale=scale))]
    fitting = [other for other in tensors.values() if other.shape[1:] == source.shape[1:]
               and (other.shape == source.shape if kind == "add"
                    else (other.bits, other.signed) == (source.bits, source.signed))]
    made, other = [], fitting[int(rng.integers(len(fitting)))]
    if rng.integers(2):
        wanted = _tensor(rng, f"{name}_branch_output", source.shape, None)
        if kind == "concat":
            wanted = replace(wanted, bits=source.bits, signed=source.signed)
        made = [_layer(rng, "pointwise", f"{name}_branch", source, bounds[source.name], channels,
                       None, shift, wanted)]
        other = wanted
    operands = [source, other] if rng.integers(2) else [other, source]
    inputs = tuple(operand.name for operand in operands)
    if kind == "concat":
        scale = np.concatenate([np.broadcast_to(operand.scale, operand.shape[0])
                                for operand in operands])
        shape = (len(scale), height, width)
        return [*made, (Concat(name, inputs, output),
                        replace(source, name=output, shape=shape, scale=scale))]
    result, code = _coded(rng, _tensor(rng, output, source.shape, None))
    used = shift or int(rng.choice(SHIFTS))
    spread = sum(operand.hi - operand.lo for operand in operands)
    ratio = (result.hi - result.lo) / spread * rng.uniform(0.2, 3, (2, channels))
    multiplier = np.clip((ratio * (1 << used - GUARD_BITS)).astype(np.int64), 1,
                         (1 << MULTIPLIER_BITS) - 1)
    lo, hi = _clip(rng, result, channels)
    return [*made, (Add(name, inputs, output, multiplier, used, lo, hi, code), result)]


def _layer(rng: np.random.Generator, kind: str, name: str, source: Tensor, bounds: Bounds,
           channels: int, bits: int | None, shift: int | None, wanted: Tensor | None = None,
           result_bits: int | None = None) -> tuple[Layer, Tensor]:
    """A random layer of a kind reading ``source``, and the type of its result.

    ``wanted`` decides that type; the layer then keeps the map's height and width.
    """
    leaky, mixed, inputs = kind == "leaky", kind == "mixed", source.shape[0]
    ausn = kind == "ausn" or mixed
    kind = "dense" if leaky else str(rng.choice(["dense", "depthwise"])) if ausn else kind
    window = Window((1, 1)) if wanted else _window(rng, kind, source.shape)
    common = {"name": name, "inputs": (source.name,), "output": f"{name}_output", "window": window}
    size = window.output_size(*source.shape[1:])
    if kind == "maximum":
        return MaxPool2d(**common), replace(source, name=common["output"], shape=(inputs, *size))
    outputs, groups = int(rng.integers(1, channels + 1)), 1
    if kind in ("depthwise", "average"):
        outputs, groups = inputs, inputs
    elif kind == "grouped":
        groups = int(rng.choice([g for g in range(1, inputs + 1) if inputs % g == 0]))
        outputs = groups * int(rng.integers(1, max(1, channels // groups) + 1))
    if wanted is not None:
        outputs = wanted.shape[0]
    result, code = wanted or _tensor(rng, common["output"], (outputs, *size), bits), None
    if ausn:
        result, code = _coded(rng, result)
    if result_bits is not None:
        result = replace(result, bits=result_bits, signed=True)
    weight_bits = int(rng.integers(2, 9))
    largest = (1 << (weight_bits - 1)) - 1
    weight = rng.integers(-largest, largest + 1, (outputs, inputs // groups, *window.kernel)
                          ).astype(np.int8)
    weight_code = AUSN_CODES[int(rng.integers(len(AUSN_CODES)))] if ausn else None
    coded = None
    if weight_code is not None:
        weight_bits = weight_code.bits + 1
        levels = (rng.choice(weight_code.levels, weight.shape)
                  * rng.choice([-1, 1], weight.shape)).astype(weight_code.dtype)
        if mixed:
            largest, coded = (1 << weight_code.bits) - 1, rng.random(outputs) < 0.5
            weight = np.where(coded[:, None, None, None], levels,
                              rng.integers(-largest, largest + 1, weight.shape)
                              ).astype(weight_code.dtype)
        else:
            weight = levels
    pad_value = np.zeros(inputs, np.int64)
    if kind == "average":
        weight[...] = 1
    elif rng.integers(2):
        pad_value = rng.integers(source.lo, source.hi + 1, inputs // (inputs if rng.integers(2)
                                                                      else 1))
        pad_value = np.broadcast_to(pad_value, inputs).astype(np.int64)
    padding = pad_value if any(window.pads) else None
    # Of random numbers, K of them add up to about 1 / sqrt(K) of the largest possible sum.
    likely = weight[0].size ** -0.5
    zero = np.zeros(outputs, np.int64)
    lows, highs = accumulator_bounds(weight, zero, *bounds, padding, groups)
    spread = (highs - lows) * likely
    centre = 0 if result.signed else spread * rng.uniform(0, 0.5)
    bias = centre - (lows + highs) // 2 + spread * rng.uniform(-0.5, 0.5, outputs)
    bias = np.rint(bias).astype(np.int64)
    rule = replace(_requantization(rng, bias, spread, result, shift), code=code)
    if leaky:
        negative = (rule.multiplier * rng.uniform(0, 1.2, outputs)).astype(np.int64)
        rule = replace(rule, multiplier_negative=np.minimum(negative, (1 << MULTIPLIER_BITS) - 1))
    proof = accumulator_proof(weight, bias, *bounds, padding, groups)
    if kind == "average":
        return AveragePool2d(**common, requantization=rule, proof=proof), result
    return Conv2d(**common, weight=weight, weight_bits=weight_bits, groups=groups,
                  pad_value=pad_value, requantization=rule, proof=proof,
                  weight_code=weight_code, coded=coded), result


def _coded(rng: np.random.Generator, result: Tensor) -> tuple[Tensor, AusnCode | None]:
    """The result with or without a code; with one it is an unsigned byte."""
    if rng.integers(2):
        return result, None
    return (replace(result, bits=8, signed=False),
            BYTE_CODES[int(rng.integers(len(BYTE_CODES)))])


def _requantization(rng: np.random.Generator, bias: np.ndarray, spread: np.ndarray,
                    result: Tensor, shift: int | None) -> Requantization:
    """Multipliers that map accumulators ``spread`` wide to about the range of the result.

    Without a given ``shift`` it is the largest, or one below, with which the multipliers fit.
    """
    ratio = (result.hi - result.lo) / np.maximum(spread, 1) * rng.uniform(0.3, 3, len(bias))
    if shift is None:
        fitting = [s for s in SHIFTS if ratio.max() * (1 << s) < 1 << MULTIPLIER_BITS]
        shift = int(rng.choice(fitting[-2:] or SHIFTS[:1]))
    multiplier = np.clip((ratio * (1 << shift)).astype(np.int64), 1, (1 << MULTIPLIER_BITS) - 1)
    return Requantization(bias, multiplier, shift, *_clip(rng, result, len(bias)))


def _clip(rng: np.random.Generator, result: Tensor, channels: int) -> Bounds:
    """Clip bounds of a result: its type's, or bounds of their own, as ReLU6 gives."""
    lo, hi = np.full(channels, result.lo), np.full(channels, result.hi)
    if rng.integers(2):
        hi = rng.integers(max(result.lo, 0), result.hi + 1, channels)
        lo = np.where(rng.random(channels) < 0.5, result.lo, np.minimum(hi, 0))
    return lo.astype(np.int64), hi.astype(np.int64)
