"""What an already quantized network keeps: its weights' integers and the scales of its maps."""

from __future__ import annotations

import numpy as np

from ref.data import Data
from ref.errors import UserError
from ref.model import MULTIPLIER_BITS, Conv2d

from .calibrate import Statistics
from .dyadic import LARGEST_RATIO, requantizer_ratio
from .graph import FloatConv, FloatNetwork
from .presets import Settings
from .weights import LinearCode, round_weights

#: How far the steps of inputs that one sum adds up may differ, relatively, and still be one: those
#: that a pool's multipliers realize do, and 8-bit weights cannot tell.
ALIKE = 2.0 ** -10
#: How far, in steps of the result, a multiplier may move a channel's largest result.
TOLERANCE = 0.5


def kept_bits(layer: FloatConv) -> int:
    """Bits of the narrow range that holds a layer's own integers."""
    assert layer.weight_step is not None
    step = np.where(layer.weight_step > 0, layer.weight_step, 1.0).reshape(-1, 1, 1, 1)
    largest = int(np.rint(np.abs(layer.weight) / step).max())
    return min(8, max(2, largest.bit_length() + 1))


def kept_code(layer: FloatConv, source_step: np.ndarray) -> tuple[LinearCode, np.ndarray]:
    """The code of a layer's own integers, and the accumulator step of each row, (O,).

    ``source_step`` (I,) is the input's. Raises `UserError` where it differs within a sum.
    """
    assert layer.weight_step is not None
    steps = source_step[layer.input_of_output]                      # (O, I / groups)
    if not _alike(steps):
        raise UserError(f"the weights of layer {layer.name!r} came as integers, and the channels "
                        "it adds up have unlike scales; quantize its input with one scale or give "
                        "the float network")
    return LinearCode(kept_bits(layer)), steps.mean(axis=1) * layer.weight_step


def kept_ratio(unit: np.ndarray, step: np.ndarray, statistics: Statistics
               ) -> tuple[np.ndarray, int, np.ndarray]:
    """Multiplier (O,), shift and accumulator step (O,) of a layer with integers of its own.

    ``unit`` (O,) is the accumulator step that these have, ``step`` (O,) the result's, whose
    ``statistics`` are in the same units. The multipliers are the nearest. A channel whose largest
    calibrated result that moves by more than `TOLERANCE` gets the next larger one and its step, for
    which its weights are rounded anew: layers with very unlike channels have such. (So does a
    channel whose sums do not fit the accumulator, in `quant.layers`: dead ones with their bias.)
    """
    ratio = np.minimum(unit / step, LARGEST_RATIO)
    multiplier, shift = requantizer_ratio(ratio, True)
    largest = np.maximum(np.abs(statistics.lo), np.abs(statistics.hi)) / step
    moved = np.abs(multiplier * 2.0 ** -shift / np.where(ratio > 0, ratio, np.inf) - 1) * largest
    nearest = (moved <= TOLERANCE) & (ratio > 0)
    multiplier, shift = requantizer_ratio(ratio, nearest)
    return multiplier, shift, np.where(nearest, unit, multiplier * 2.0 ** -shift * step)


def kept_channels(layer: FloatConv, made: Conv2d) -> int:
    """The output channels of a layer whose integers are the file's."""
    code, assumed = kept_code(layer, np.ones(layer.input_of_output.max() + 1))
    own = round_weights(layer.weight, assumed, code)
    return int((own == made.weight).all(axis=(1, 2, 3)).sum())


def kept_map(network: FloatNetwork, group: frozenset[str], channels: int, signed: bool
             ) -> tuple[int, np.ndarray] | None:
    """Bits and steps (C,) of maps that are one type, where the file gives them; else None.

    Where it gives several scales all maps take the largest, and no range gets narrower.
    """
    maps = [network.stored[name] for name in sorted(group) if name in network.stored]
    if not maps:
        return None
    bits = min(8, max(one.bits + int(signed and not one.signed) for one in maps))
    largest = (1 << (bits - int(signed))) - 1
    step = maps[0].step
    if len(step) != channels or not all(np.array_equal(one.step, step) for one in maps):
        step = np.full(channels, max(float(one.step.max()) for one in maps))
    reach = max(one.hi * float(one.step.max()) for one in maps)
    return bits, step * max(1.0, reach / (largest * float(step.max())))


def needs_first_convolution(network: FloatNetwork, data: Data) -> bool:
    """Whether a layer whose weights are kept would add up inputs of unlike or negative scales."""
    step = np.broadcast_to(data.x_scale * network.input_gain, len(network.input_gain))
    return any(isinstance(layer, FloatConv) and layer.weight_step is not None
               and (not _alike(step[layer.input_of_output]) or bool((step < 0).any()))
               for layer in network.readers(network.input))


def check_kept(network: FloatNetwork, settings: Settings) -> None:
    """Raise `UserError` for settings that ask for other weights or maps than the file has."""
    for layer in network.layers:
        wanted = settings.of(layer.name)
        if isinstance(layer, FloatConv) and layer.weight_step is not None:
            bits = kept_bits(layer)
            if wanted.multiplier_bits != MULTIPLIER_BITS:
                raise UserError(f"the weights of layer {layer.name!r} came as integers, which ask "
                                f"for multipliers of {MULTIPLIER_BITS} bits; give the float "
                                "network, leave out the multiplier bits, or choose another "
                                "preset")
            if wanted.weight_bits < bits or wanted.weight_code != "linear":
                raise UserError(f"the weights of layer {layer.name!r} came as integers of {bits} "
                                f"bits, and the settings ask for {wanted.weight_bits} bits "
                                f"({wanted.weight_code}); give the float network, or quantize with "
                                "w8a8")
        stored = network.stored.get(layer.output)
        if stored is not None and (wanted.activation_bits < stored.bits
                                   or wanted.activation_code != "linear"):
            raise UserError(f"the map {layer.output!r} came with integers of {stored.bits} bits, "
                            f"and the settings ask for {wanted.activation_bits} bits "
                            f"({wanted.activation_code}); give the float network, or quantize with "
                            "w8a8")


def _alike(steps: np.ndarray) -> bool:
    """Whether the steps in each row of (O, K) are the same, as far as `ALIKE` goes."""
    return bool((np.abs(steps - steps[:, :1]) <= ALIKE * np.abs(steps[:, :1])).all())
