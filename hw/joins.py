"""Layers that add maps or put their channels together, as steps of the engine."""

from math import gcd

import numpy as np

from ref.bounds import signed_bits
from ref.errors import UserError
from ref.model import BLOCK, GUARD_BITS, Add, Concat, Model, SpaceToDepth, Window

from .config import EngineConfig
from .program import STORED_OFFSET
from .step import Map, Step, pick, unchanged

#: Most products that the array makes of one word of a depthwise step.
MOST_REPEATS = 32
#: Largest multiplier of a requantizer, behind the guard bits that a sum's operands get in `ref`.
LARGEST_FACTOR = ((1 << 16) - 1) >> GUARD_BITS


def add_step(layer: Add, model: Model, config: EngineConfig) -> Step:
    """The sum of two maps: a depthwise step whose patch has a word of either.

    Its multipliers are weights times a common factor per channel, which the requantizer multiplies
    by; weights above the largest are spread over several products. Raises `UserError` when
    these are more than the array makes, or the sums too wide.
    """
    sources, target = [model.tensors[name] for name in layer.inputs], model.tensors[layer.output]
    factor, weight = factored(layer)
    products = level_parts(weight) if config.mixed else equal_parts(weight, config.largest_weight)
    repeats = products.shape[-1]
    if repeats > MOST_REPEATS:
        raise UserError(f"layer {layer.name}: a multiplier of its sum takes {repeats} products and "
                        f"the engine makes {MOST_REPEATS}; quantize the network again")
    bits = added_bits(layer) if config.bias_bits else sum_bits(layer, model)
    if bits > config.accumulator_bits:
        raise UserError(f"layer {layer.name} needs an accumulator of {bits} bits and the engine "
                        f"has {config.accumulator_bits}; quantize the network again")
    offsets = np.array([[STORED_OFFSET if source.signed else 0] for source in sources])
    stored = STORED_OFFSET if target.signed else 0
    channels = target.shape[0]
    return Step(
        name=layer.name, sources=layer.inputs, target=layer.output,
        shape=target.shape, result=target.shape, window=Window((1, 1)),
        weight=products.transpose(1, 0, 2).reshape(channels, -1, 1, 1), depthwise=True,
        maximum=False, hold=False, pad=np.zeros(channels, np.int64),
        bias=-(offsets * weight).sum(axis=0), multiplier=factor << GUARD_BITS, shift=layer.shift,
        lo=int(layer.lo[0]) + stored, hi=layer.hi + stored, signed_output=target.signed, macs=0)


def equal_parts(weight: np.ndarray, largest: int) -> np.ndarray:
    """Weights (...) as sums (..., repeats) of about equal ones, each ``largest`` at most."""
    repeats = -(-int(weight.max()) // largest)
    return (weight[..., None] + np.arange(repeats)) // repeats


def level_parts(weight: np.ndarray) -> np.ndarray:
    """Weights (...) as sums (..., repeats) of ones that lanes of either kind multiply by.

    These are 0 to 4 and 6; what is left of 6s is 5 at most, which is 4 and 1. ``repeats`` is as
    small as can be.
    """
    sixes, rest = np.divmod(weight, 6)
    parts = np.where(np.arange(int(sixes.max())) < sixes[..., None], 6, 0)
    ones = rest == 5
    parts = np.concatenate([parts, (rest - ones)[..., None], ones[..., None]], axis=-1)
    parts = -np.sort(-parts, axis=-1)
    return parts[..., parts.reshape(-1, parts.shape[-1]).any(axis=0)]


def factored(layer: Add) -> tuple[np.ndarray, np.ndarray]:
    """A sum's multipliers as common factors (C,) and weights (2, C)."""
    factor = np.array([common_factor(int(one), int(other)) for one, other in layer.multiplier.T])
    return factor, layer.multiplier // factor


def sum_bits(layer: Add, model: Model) -> int:
    """Bits of the accumulator that a sum needs."""
    _, weight = factored(layer)
    lowest, highest = (sum(weight * np.array([[getattr(model.tensors[name], end)]
                                              for name in layer.inputs]))
                       for end in ("lo", "hi"))
    return signed_bits(int(lowest.min()), int(highest.max()))


def added_bits(layer: Add) -> int:
    """Bits of the sum of a layer's operands as stored, before the bias."""
    _, weight = factored(layer)
    return signed_bits(0, 255 * int(weight.sum(0).max()))


def common_factor(one: int, other: int) -> int:
    """The largest divisor of both that is at most `LARGEST_FACTOR`."""
    common = gcd(one, other)
    return common // next(divisor for divisor in range(-(-common // LARGEST_FACTOR), common + 1)
                          if common % divisor == 0)


def pieces(layer: Concat | SpaceToDepth) -> list[tuple[str, Window]]:
    """What lies side by side in the result, in order: a map, and which of its pixels."""
    if isinstance(layer, Concat):
        return [(name, Window((1, 1))) for name in layer.inputs]
    return [(layer.inputs[0], Window((1, 1), (BLOCK, BLOCK), (-dy, -dx, 0, 0)))
            for dy in range(BLOCK) for dx in range(BLOCK)]


def places(layer: Concat | SpaceToDepth, model: Model, word: int) -> tuple[str, list[int]]:
    """The map in which every piece begins a word, and the number of that word in a pixel.

    It is the result itself unless a piece before the last leaves part of its last word free.
    """
    channels = [model.tensors[source].shape[0] for source, _ in pieces(layer)]
    firsts = np.cumsum([0, *(-(-count // word) for count in channels[:-1])]).tolist()
    full = all(count % word == 0 for count in channels[:-1])
    return (layer.output if full else f"{layer.output} by words"), firsts


def maps_of(model: Model, word: int) -> dict[str, Map]:
    """Every map that needs memory; ``word`` is the number of channels in a word of it.

    What a concatenation reads is made where it wants it, so that nothing need be moved: unless it
    is the network's input, has such a place already, or is part of a sum, whose maps are alike.
    """
    maps = {name: Map(tensor.shape, tensor.signed) for name, tensor in model.tensors.items()}
    fixed = {model.input.tensor} | {name for layer in model.layers if isinstance(layer, Add)
                                    for name in layer.inputs}
    for layer in model.layers:
        if not isinstance(layer, Concat | SpaceToDepth):
            continue
        joined, firsts = places(layer, model, word)
        result = model.tensors[layer.output]
        if joined != layer.output:
            last = model.tensors[pieces(layer)[-1][0]].shape[0]
            maps[joined] = Map((firsts[-1] * word + last, *result.shape[1:]), result.signed)
        for name, group in zip(layer.inputs, firsts, strict=False):
            if isinstance(layer, Concat) and name not in fixed:
                maps[name] = Map(maps[name].shape, maps[name].signed, joined, group)
                fixed.add(name)
    return maps


def move_steps(layer: Concat | SpaceToDepth, model: Model, maps: dict[str, Map], word: int
               ) -> list[Step]:
    """Copies of the pieces that do not lie in their place yet, each to the beginning of a word.

    Where that is not where the result has them, a pointwise step then picks its channels.
    """
    joined, firsts = places(layer, model, word)
    steps, lanes = [], []
    for (name, window), first in zip(pieces(layer), firsts, strict=True):
        source = model.tensors[name]
        lanes += [first * word + channel for channel in range(source.shape[0])]
        if (maps[name].within, maps[name].group) != (joined, first):
            steps.append(unchanged(layer.name, source, joined, window, group=first))
    if joined != layer.output:
        steps.append(pick(layer.name, joined, layer.output, maps[joined].shape, np.array(lanes)))
    return steps
