"""One-shot full-integer quantization: a float network and calibration data in, `ref.Model` out."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ref.check import check_model
from ref.data import Data, load_data
from ref.errors import UserError
from ref.model import AveragePool2d, Conv2d, Layer, Model

from .balance import Balanced, balance, balance_report
from .calibrate import calibrate
from .dyadic import ANY_RATIO, Span
from .graph import PASSING, FloatConcat, FloatConv, FloatNetwork
from .import_onnx import import_onnx
from .input_rule import make_input, traced_input
from .kept import check_kept, kept_channels, needs_first_convolution
from .lanes import coded_channels
from .layers import quantize_layer
from .mixed import closest, settings_within_budget
from .overrides import check_overrides
from .planes import on_planes
from .presets import PRESETS, Settings, find_preset
from .progress import Tell, untold
from .reader import CalibrationDataReader, as_data, read_samples
from .shifts import window_spans
from .targets import find_targets
from .trace import TRACED_SAMPLES, Trace
from .weight_errors import weight_errors


def quantize(net: str | Path | FloatNetwork | Balanced,
             calib: str | Path | Data | np.ndarray | CalibrationDataReader,
             preset: str | Settings = "w8a8",
             progress: Tell = untold) -> Model:
    """Quantize a float network with calibration data, without training.

    ``net`` is an ONNX file, an imported network, or a balanced one (step by step: `import_onnx`,
    `prepare`, `calibrate`, `balance`, and this with the same settings); ``calib`` a data file, its
    `Data`, an array of samples, or onnxruntime's CalibrationDataReader (`quant.reader` says which
    integers its floats become); ``preset`` a name of `PRESETS` or `Settings`.
    ``progress`` hears of each stage ("import", "calibrate", "balance", "quantize", "prove") and of
    each of its steps (see `quant.progress.Tell`). The same arguments give the same model.
    Raises `UserError` for anything that cannot be honoured.
    """
    settings = find_preset(preset) if isinstance(preset, str) else preset
    balanced, data = _balanced(net, calib, settings, progress)
    float_name = Path(net).name if isinstance(net, str | Path) else balanced.network.name
    models = [_integers(balanced, data, chosen, float_name, progress, {})
              for chosen in settings_within_budget(balanced.network, data, settings)]
    model = closest(models, balanced.network, data) if len(models) > 1 else models[0]
    spans = window_spans(model, settings)
    if spans:
        model = _integers(balanced, data, settings, float_name, progress, spans)
    progress("prove", 0, 1)
    check_model(model)
    progress("prove", 1, 1)
    return model


def _integers(balanced: Balanced, data: Data, settings: Settings, float_name: str,
              progress: Tell, spans: dict[str, Span]) -> Model:
    """The integer model of a balanced network; ``float_name`` is what its metadata say it is of.

    ``spans`` are bounds of the ratios of layers that have any (see `quant.shifts`).
    """
    name = next((name for name, known in PRESETS.items() if known == settings), "custom")
    calibration = balanced.calibration
    progress("quantize", 0, len(balanced.network.layers))
    rule, source = make_input(balanced.network, calibration, data, settings)
    made, layers = {source.tensor.name: source}, []
    errors: dict[str, dict[str, float]] = {}
    narrowed, kept = dict[str, int](), dict[str, list[int]]()
    targets = find_targets(balanced, source.tensor, settings)
    greedy = {layer.name for layer in balanced.network.layers if isinstance(layer, FloatConv)
              and layer.weight_step is None and settings.of(layer.name).rounding == "greedy"}
    network = on_planes(balanced.network) if rule.low_bits else balanced.network
    coded = coded_channels(network, balanced.calibration, source, settings)
    trace = None
    if greedy:
        followed = data.head(TRACED_SAMPLES)
        trace = Trace(network, *traced_input(balanced.network, followed, rule,
                                             source.tensor))
    for single, layer in zip(balanced.network.layers, network.layers, strict=True):
        sources = [made[name] for name in layer.inputs]
        moments = (trace.moments(layer, sources[0])
                   if trace and isinstance(layer, FloatConv) and layer.name in greedy else None)
        integer, result, coarser = quantize_layer(layer, sources, targets[layer.output],
                                                  settings.of(layer.name), moments,
                                                  coded.get(layer.name),
                                                  spans.get(layer.name, ANY_RATIO))
        layers.append(integer)
        if coarser:
            narrowed[layer.name] = coarser
        made[result.tensor.name] = result
        if isinstance(layer, FloatConv) and isinstance(integer, Conv2d):
            assert isinstance(single, FloatConv)
            planes = layer.weight.shape[1] // single.weight.shape[1]    # the high one counts
            errors[layer.name] = weight_errors(
                single, replace(integer, weight=integer.weight[:, ::planes]),
                sources[0].step[::planes], result.step, sources[0].square[::planes])
            if single.weight_step is not None:
                kept[layer.name] = [kept_channels(single, integer), len(integer.weight)]
        if trace:
            trace.advance(layer, integer)
        progress("quantize", len(layers), len(network.layers))
    metadata = {"preset": name, "settings": asdict(settings), "samples": calibration.samples,
                "balance": balance_report(balanced), "weight_errors": errors,
                "narrowed_channels": narrowed, "kept_channels": kept,
                "wider_accumulators": {
                    layer.name: layer.proof.bits for layer in layers
                    if isinstance(layer, Conv2d | AveragePool2d)
                    and layer.proof.bits > settings.accumulator_bits},
                "float": float_name}
    tensors = {name: result.tensor for name, result in made.items()}
    made_layers: tuple[Layer, ...] = tuple(layers)
    return Model(network.name, rule, tensors, made_layers, metadata)


def _balanced(net: str | Path | FloatNetwork | Balanced,
              calib: str | Path | Data | np.ndarray | CalibrationDataReader, settings: Settings,
              progress: Tell) -> tuple[Balanced, Data]:
    """The balanced network, made where it is not given, and the calibration data."""
    if isinstance(net, Balanced):
        data = _as_data(calib, net.network)
        if prepare(net.network, data) is not net.network:
            raise UserError(f"the network {net.network.name!r} needs a convolution before all that "
                            "reads its input; call prepare on it before calibrate")
        check_overrides(settings, net.network)
        check_kept(net.network, settings)
        return net, data
    progress("import", 0, 1)
    network = net if isinstance(net, FloatNetwork) else import_onnx(net)
    data = _as_data(calib, network)
    progress("import", 1, 1)
    network = prepare(network, data)
    check_overrides(settings, network)
    check_kept(network, settings)
    calibration = calibrate(network, data, settings.calibration, progress)
    progress("balance", 0, 1)
    if settings.budget is not None:     # balanced alike whatever widths will be found
        settings = replace(settings, overrides={})
    balanced = balance(network, calibration, settings)
    progress("balance", 1, 1)
    return balanced, data


def _as_data(calib: str | Path | Data | np.ndarray | CalibrationDataReader, network: FloatNetwork
             ) -> Data:
    """Calibration data in its one form."""
    if isinstance(calib, Data):
        return calib
    if isinstance(calib, np.ndarray):
        return as_data(calib)
    if isinstance(calib, str | Path):
        return load_data(calib)
    return as_data(read_samples(calib, network), "the calibration reader's data")


def prepare(network: FloatNetwork, data: Data) -> FloatNetwork:
    """The network with a convolution first where one is needed between the input and its readers.

    An offset of the input must fold into convolutions, and operands of a concatenation have one
    type, which the input's own may not be. Weights that came as integers want one scale.
    """
    plain = not (network.input_offset.any() or data.x_zero_point.any()
                 or (network.input_gain < 0).any())
    linked = network.linked(PASSING)[network.input]
    joined = any(isinstance(layer, FloatConcat) and layer.output in linked
                 for layer in network.layers)
    folds = all(isinstance(layer, FloatConv) for layer in network.readers(network.input))
    if (folds or (plain and not joined)) and not needs_first_convolution(network, data):
        return network
    return network.with_first_convolution()
