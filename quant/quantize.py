"""One-shot full-integer quantization: a float network and calibration data in, `ref.Model` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ref.check import check_model
from ref.data import Data, load_data
from ref.errors import UserError
from ref.model import Layer, Model, Window

from .balance import Balanced, balance, balance_report
from .calibrate import calibrate
from .graph import (
    FloatAveragePool,
    FloatConv,
    FloatLayer,
    FloatMaxPool,
    FloatNetwork,
    is_rectified,
)
from .import_onnx import import_onnx
from .input_rule import make_input
from .layers import Quantized, Target, quantize_layer
from .presets import PRESETS, Settings, find_preset
from .ranges import channel_ranges, tensor_range

#: Range of the class scores over the calibrated one, so that none saturates and ties with another.
SCORE_MARGIN = 1.1


def quantize(net: str | Path | FloatNetwork, calib: str | Path | Data | np.ndarray,
             preset: str | Settings = "w8a8",
             progress: Callable[[str], None] = lambda stage: None) -> Model:
    """Quantize a float network with calibration data, without training.

    ``net`` is an ONNX file or an imported network; ``calib`` a data file, its `Data`, or an array
    of integers whose real value is themselves; ``preset`` a name of `PRESETS` or `Settings`.
    ``progress`` hears the name of each stage as it starts. The same arguments give the same model.
    Raises `UserError` for anything that cannot be honoured.
    """
    settings = find_preset(preset) if isinstance(preset, str) else preset
    name = next((name for name, known in PRESETS.items() if known == settings), "custom")
    progress("import")
    network = net if isinstance(net, FloatNetwork) else import_onnx(net)
    data = _as_data(calib)
    progress("calibrate")
    network = _with_first_convolution(network, data)
    calibration = calibrate(network, data, settings.calibration)
    progress("balance")
    balanced = balance(network, calibration, settings)
    progress("quantize")
    rule, source = make_input(network, calibration, data)
    tensors, layers = {source.tensor.name: source.tensor}, []
    for index, layer in enumerate(balanced.network.layers):
        target = _target(balanced, index, source, settings)
        made, source = quantize_layer(layer, source, target, settings)
        layers.append(made)
        tensors[source.tensor.name] = source.tensor
    metadata = {"preset": name, "settings": asdict(settings), "samples": calibration.samples,
                "balance": balance_report(calibration, balanced),
                "float": Path(net).name if not isinstance(net, FloatNetwork) else network.name}
    made_layers: tuple[Layer, ...] = tuple(layers)
    model = Model(network.name, rule, tensors, made_layers, metadata)
    progress("prove")
    check_model(model)
    return model


def _as_data(calib: str | Path | Data | np.ndarray) -> Data:
    """Calibration data in its one form."""
    if isinstance(calib, Data):
        return calib
    if isinstance(calib, np.ndarray):
        if calib.dtype.kind not in "iu" or calib.ndim < 2 or not calib.size:
            raise UserError(f"the calibration array is {calib.dtype.name} of shape {calib.shape}; "
                            "give integers whose first axis holds the samples")
        return Data(calib, None, np.ones(()), np.zeros(()))
    return load_data(calib)


def _with_first_convolution(network: FloatNetwork, data: Data) -> FloatNetwork:
    """The network with a convolution first where an offset of its input must fold into one."""
    plain = not (network.input_offset.any() or data.x_zero_point.any()
                 or (network.input_gain < 0).any())
    first = network.layers[0]
    if plain or isinstance(first, FloatConv):
        return network
    channels, name = network.input_shape[0], f"{network.input}_normalized"
    identity = FloatConv(name, network.input, name, Window((1, 1)),
                         np.ones((channels, 1, 1, 1)), np.zeros(channels), channels, None)
    return replace(network, layers=(identity, replace(first, input=name), *network.layers[1:]))


def _target(balanced: Balanced, index: int, source: Quantized, settings: Settings) -> Target:
    """Type and steps of the result of layer ``index``."""
    network, calibration = balanced.network, balanced.calibration
    layer = network.layers[index]
    statistics = calibration.tensors[layer.output]
    if isinstance(layer, FloatConv):
        signed = not is_rectified(layer.activation)
    else:
        signed = source.tensor.signed
    bits = source.tensor.bits if isinstance(layer, FloatMaxPool) else settings.activation_bits
    last = layer.output == network.output
    if last and not isinstance(layer, FloatMaxPool):
        bits = 8
    largest = (1 << (bits - int(signed))) - 1
    channels = len(statistics.lo)
    reader = _mixing_reader(network, index)
    if last:
        reach = float(max(statistics.hi.max(), -statistics.lo.min())) or 1.0
        step = np.full(channels, SCORE_MARGIN * reach / largest)
    elif isinstance(reader, FloatAveragePool) or (isinstance(reader, FloatConv)
                                                  and reader.channelwise):
        step = channel_ranges(statistics, calibration.method, bits) / largest
    else:
        step = np.full(channels, tensor_range(statistics, calibration.method, bits) / largest)
    return Target(layer.output, network.shapes()[layer.output], bits, signed,
                  last, step, balanced.factor(layer.output),
                  statistics)


def _mixing_reader(network: FloatNetwork, index: int) -> FloatLayer | None:
    """The first layer after ``index`` that is not a maximum, which passes scales on.

    None, which asks for one shared scale, also for an average pool that ends the network.
    """
    for layer in network.layers[index + 1:]:
        if isinstance(layer, FloatAveragePool) and layer.output == network.output:
            return None
        if not isinstance(layer, FloatMaxPool):
            return layer
    return None
