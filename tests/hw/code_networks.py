"""Random networks with activations in codes, for the engine with lanes of both kinds."""

from dataclasses import replace

import numpy as np

from hw.ausn.code_product import ACTIVATIONS, WEIGHTS
from hw.config import EngineConfig
from hw.fit import ICE40_CODES
from ref import AveragePool2d, Conv2d, Input, Model, Requantization, Tensor, Window
from ref.bounds import accumulator_proof, input_bounds, layer_bounds, layer_operands

ONE = np.array(1.0)
#: Small memories, so that an engine is quickly simulated.
CONFIG = replace(ICE40_CODES, tape_depth=4096, activation_depth=2048, shifts=(4, 5, 7, 8, 10, 13))


def random_rule(rng, weight, byte_input, byte_result, config) -> Requantization:
    """A rule that an engine of ``config`` has, with sums spread over its results and beyond."""
    outputs = len(weight)
    reach = np.abs(weight).reshape(outputs, -1).sum(1).max() * (128 if byte_input else 8 * 14) + 1
    more = 3 * (byte_input + (not byte_result))             # that the engine shifts
    wanted = np.log2(reach / (128 if byte_result else 400)) + rng.uniform(-1.5, 1.5, outputs)
    nearest = np.abs(np.subtract.outer(wanted + more, config.shifts)).argmin(1)
    powers = 16 + more - np.array(config.shifts)[nearest]
    bias = rng.integers(-reach // 4, reach // 4 + 1, outputs)
    return Requantization(bias, 1 << powers.clip(0, 14), 16, np.zeros(outputs, np.int64),
                          np.full(outputs, 255), code=None if byte_result else ACTIVATIONS)


def random_weight(rng, coded, shape):
    """Weights (O, ...): AUSN levels in channels that are ``coded``, else of four bits."""
    levels = np.concatenate([WEIGHTS.levels, -WEIGHTS.levels])
    weight = rng.integers(-7, 8, shape)
    weight[coded] = rng.choice(levels, (int(coded.sum()), *shape[1:]))
    return weight


def random_code_network(rng, config: EngineConfig = CONFIG, layers: int = 4) -> Model:
    """A convolution of bytes, some layers of codes, and a convolution to bytes."""
    channels = int(rng.integers(1, 4))
    shape = (channels, int(rng.integers(4, 12)), int(rng.integers(4, 10)))
    signed = bool(rng.integers(2))
    tensors = {"x": Tensor("x", shape, 8, signed, ONE)}
    source = Input("x", "int8" if signed else "uint8", 1, 0, ONE, ONE, shape)
    bounds, made = {"x": input_bounds(source, tensors["x"])}, []
    coded = None
    for number in range(layers):
        first, last = number == 0, number == layers - 1
        name, before = f"t{number}", "x" if first else f"t{number - 1}"
        inputs, height, width = tensors[before].shape
        kind = "dense" if first or last else rng.choice(["dense", "depthwise", "average"])
        kernel = tuple(int(rng.integers(1, min(4, size) + 1)) for size in (height, width))
        stride = tuple(int(rng.integers(1, 3)) for _ in range(2))
        pads = tuple(int(rng.integers(0, (kernel[k % 2] + 1) // 2)) for k in range(4))
        window = Window(kernel, stride, pads if kind != "average" else (0, 0, 0, 0))
        if rng.integers(3) == 0:
            window = Window((1, 1))
        rows, columns = window.output_size(height, width)
        outputs = inputs if kind != "dense" else int(rng.integers(1, 28))
        if kind == "dense":
            coded = rng.random(outputs) < 0.5
        if kind == "average":
            weight = np.ones((outputs, 1, *window.kernel), np.int64)
        else:
            weight = random_weight(rng, coded, (outputs, 1 if kind == "depthwise" else inputs,
                                                *window.kernel))
            if last:                            # the blocks alone: any bytes
                weight[0] = rng.integers(-100, 101, weight[0].shape) // weight[0].size
        result_signed = last and bool(rng.integers(2))
        tensors[name] = Tensor(name, (outputs, rows, columns), 8, result_signed, ONE)
        rule = random_rule(rng, weight, first, last, config)
        if result_signed:
            rule = replace(rule, lo=rule.lo - 128, hi=rule.hi - 128)
        lowest, highest = bounds[before]
        if kind == "average":
            layer = AveragePool2d(name, (before,), name, window, rule, None)
        else:
            pad = np.zeros(inputs, np.int64)
            if first:                           # of all channels, or differing between them
                pad += rng.integers(-3 * signed, 4, rng.choice([1, inputs], p=[0.75, 0.25]))
            layer = Conv2d(name, (before,), name, weight.astype(np.int8), 8, window,
                           outputs if kind == "depthwise" else 1, pad, rule, None)
        taps, bias, pad_value, groups = layer_operands(layer, inputs)
        layer = replace(layer, proof=accumulator_proof(taps, bias, lowest, highest, pad_value,
                                                       groups))
        made.append(layer)
        bounds[name] = layer_bounds(layer, bounds[before])
    return Model("codes", source, tensors, tuple(made))
