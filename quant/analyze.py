"""Where a quantized network's error comes from: layer by layer, cumulative and alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ref.data import Data, load_data
from ref.distance import Distance
from ref.file import load_model
from ref.model import Conv2d, Layer, Model
from ref.run import run_layers

from .accuracy import accuracy_report
from .coarser import Coarser
from .evaluate import evaluate_layer, evaluate_tensors, reevaluate
from .graph import PASSING, FloatConv, FloatLayer, FloatNetwork
from .import_onnx import import_onnx
from .progress import Tell, untold
from .twin import Twin

#: Samples whose maps are compared, unless more or fewer are asked for.
SAMPLES = 16
#: Bits a single layer is tried with.
BITS = (8, 6, 4)
#: Names of layers that one sentence lists at most.
MOST_NAMES = 6
#: Values of all maps of a batch held at once, of the float network.
BATCH_VALUES = 1 << 25


def analyze(model: Model | str | Path, network: FloatNetwork | str | Path,
            data: Data | str | Path, samples: int | None = None,
            progress: Tell = untold) -> dict[str, Any]:
    """The error of a model, tensor by tensor and layer by layer, in JSON values.

    ``network`` is the float network it was made from, ``data`` measures its accuracy (`samples` of
    it the layers' errors, `SAMPLES` by default); all three may be files. ``progress`` hears of the
    stages "accuracy" and "analyze" (see `quant.progress.Tell`). The result holds

    - ``network``, ``preset``, ``settings``, ``calibration_samples`` (null for a model that does not
      know them);
    - ``narrowed_channels`` and ``wider_accumulators``: the layers whose weights became coarser to
      fit the accumulator (and how many channels), or whose accumulator became wider (its bits);
    - ``accuracy``: a `quant.accuracy.accuracy_report` on all of the data;
    - ``samples``, and ``bits``, those that single layers are tried with;
    - ``layers``, in order, each with

      - ``name``, ``kind``, ``output``, ``shape`` (C, H, W), ``weights`` (how many),
        ``weight_bits`` (null without weights), ``activation_bits``, ``accumulator`` (``bits``,
        ``lo``, ``hi``, or null where nothing is summed);
      - ``cumulative``: ``snr_db``, ``cosine``, ``max_error`` of its result in the integer network
        beside the float one;
      - ``isolated_db``: signal over noise of the *network's* result when this layer alone is
        quantized, weights and result, as in the model;
      - ``sensitivity``: ``weights`` and ``activations``, each {bits: the same when only this
        layer's weights, or only its result, have so many bits} (see `quant.coarser`); empty where
        there are none;
      - ``weight_errors`` and ``activation_errors``: ``clipping`` and ``rounding``, squared errors
        of values beyond the range and within it, relative to all squared values (or null), those
        of weights as in `quant.weight_errors`;
      - ``uniformity`` of ``activations`` and ``weights`` (`quant.balance.uniformity`, or null), and
        ``balance`` of its result: exponents and uniformity before and after (or null);
      - ``range``: ``lo`` and ``hi``, the real values that occur, ``smallest`` and ``largest``,
        those that the integers reach (the widest channel's);
    - ``findings``: sentences that say what stands out.

    Decibels are null where there is no error at all. Raises `UserError` when the three do not fit
    together.
    """
    model = model if isinstance(model, Model) else load_model(model)
    network = network if isinstance(network, FloatNetwork) else import_onnx(network)
    data = data if isinstance(data, Data) else load_data(data)
    twin = Twin(model, network)
    report = {
        "network": model.name, "preset": model.metadata.get("preset"),
        "settings": model.metadata.get("settings"),
        "calibration_samples": model.metadata.get("samples"),
        "narrowed_channels": model.metadata.get("narrowed_channels", {}),
        "wider_accumulators": model.metadata.get("wider_accumulators", {}),
        "accuracy": accuracy_report(model, data, network, progress)}
    few = data.head(min(samples or SAMPLES, len(data)))
    entries = _measured(twin, few, progress)
    report |= {"samples": len(few), "bits": list(BITS),
               "layers": [_description(layer, model) | entries[layer.name].report()
                          for layer in model.layers]}
    return report | {"findings": findings(report)}


def _measured(twin: Twin, data: Data, progress: Tell) -> dict[str, _Measured]:
    """What is measured of every layer, by name."""
    real, network = twin.real_input(data), twin.network
    entries = {layer.name: _Measured(layer, twin) for layer in network.layers}
    values = sum(math.prod(shape) for shape in network.shapes().values())
    step = max(1, BATCH_VALUES // values)
    batches = range(0, len(data), step)
    total = len(batches) * len(network.layers)
    progress("analyze", 0, total)
    for done, start in enumerate(batches):
        maps = {network.input: real[start:start + step]}
        maps |= dict(evaluate_tensors(network, maps[network.input]))
        integers = run_layers(twin.model, data.x[start:start + step])
        for index, layer in enumerate(network.layers, 1):
            entries[layer.name].add(maps, integers[layer.output])
            progress("analyze", done * len(network.layers) + index, total)
    return entries


class _Measured:
    """Sums of one layer's errors, batch after batch."""

    def __init__(self, layer: FloatLayer, twin: Twin) -> None:
        self.layer, self.twin = layer, twin
        self.rounding = twin.rounding({layer.output})
        self.made = twin.with_own_weights(layer) if isinstance(layer, FloatConv) else layer
        self.coarser: Coarser | None = None
        self.cumulative = Distance()
        self.trials: dict[tuple[str, int], Distance] = {}
        self.square = self.clipped = self.rounded = self.largest = 0.0
        self.count = 0
        self.lo, self.hi = math.inf, -math.inf

    def add(self, maps: dict[str, np.ndarray], integers: np.ndarray) -> None:
        """Take in a batch: all maps of the float network, and this layer's result in integers."""
        value = maps[self.layer.output]
        tensor = self.twin.model.tensors[self.layer.output]
        scale = tensor.scale.reshape(-1, 1, 1)
        self.cumulative.add(value, integers * scale)
        self.lo, self.hi = min(self.lo, float(value.min())), max(self.hi, float(value.max()))
        self.square += float((value ** 2).sum(dtype=np.float64))
        self.count += value.size
        error = (self.rounding(self.layer.output, value) - value).astype(np.float64) ** 2
        beyond = (value > (tensor.hi + 0.5) * scale) | (value < (tensor.lo - 0.5) * scale)
        self.clipped += float(error[beyond].sum())
        self.rounded += float(error[~beyond].sum())
        if isinstance(self.layer, PASSING):
            return
        if self.coarser is None:
            self.coarser = Coarser(self.layer, self.twin, maps, BITS)
        network = self.twin.network
        for key, changed in self._variants(maps):
            result = reevaluate(network, maps, self.layer.output, changed)
            self.trials.setdefault(key, Distance()).add(maps[network.output], result)

    def _variants(self, maps: dict[str, np.ndarray]
                  ) -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        """The layer's result when it is quantized as the model has it, and in each trial."""
        layer, name = self.layer, self.layer.output
        assert self.coarser is not None
        sources = [maps[source] for source in layer.inputs]
        yield ("isolated", 0), self.rounding(name, evaluate_layer(self.made, *sources))
        for bits, changed in self.coarser.weights.items():
            yield ("weights", bits), evaluate_layer(changed, *sources)
        for bits in BITS:
            yield ("activations", bits), self.coarser.rounded(maps[name], bits)

    def report(self) -> dict[str, Any]:
        """The measured part of the layer's entry."""
        model, layer = self.twin.model, self.layer
        tensor = model.tensors[layer.output]
        reach, scale = max(abs(self.lo), abs(self.hi)), float(tensor.scale.max())
        rms = math.sqrt(self.square / self.count)
        errors = None
        if self.square and not isinstance(layer, PASSING):
            errors = {"clipping": self.clipped / self.square,
                      "rounding": self.rounded / self.square}
        weights = layer.weight if isinstance(layer, FloatConv) else np.zeros(1)
        largest = float(np.abs(weights).max())
        return {
            "cumulative": self.cumulative.measures(),
            "isolated_db": self._snr("isolated", 0),
            "sensitivity": {kind: {str(bits): self._snr(kind, bits) for bits in BITS
                                   if (kind, bits) in self.trials}
                            for kind in ("weights", "activations")},
            "weight_errors": model.metadata.get("weight_errors", {}).get(layer.name),
            "activation_errors": errors,
            "uniformity": {
                "activations": rms / reach if reach else None,
                "weights": float(np.sqrt((weights ** 2).mean())) / largest if largest else None},
            "balance": model.metadata.get("balance", {}).get(layer.output),
            "range": {"lo": self.lo, "hi": self.hi, "smallest": tensor.lo * scale,
                      "largest": tensor.hi * scale}}

    def _snr(self, kind: str, bits: int) -> float | None:
        """The decibels of a trial."""
        return self.trials[kind, bits].snr_db if (kind, bits) in self.trials else None


def _description(layer: Layer, model: Model) -> dict[str, Any]:
    """What an entry says of the layer itself."""
    tensor, proof = model.tensors[layer.output], getattr(layer, "proof", None)
    return {
        "name": layer.name, "kind": type(layer).__name__, "output": layer.output,
        "shape": list(tensor.shape),
        "weights": layer.weight.size if isinstance(layer, Conv2d) else 0,
        "weight_bits": layer.weight_bits if isinstance(layer, Conv2d) else None,
        "activation_bits": tensor.bits,
        "accumulator": None if proof is None else {"bits": proof.bits, "lo": proof.lo,
                                                   "hi": proof.hi}}


def findings(report: dict[str, Any]) -> list[str]:
    """Sentences that say what stands out in a report of `analyze`."""
    found = []
    rows = report["accuracy"]["rows"]
    weights, activations = (rows[kind]["snr_db"] for kind in ("weights", "activations"))
    if weights is not None and activations is not None:
        more, less = (("weights", "activations") if weights < activations
                      else ("activations", "weights"))
        found.append(f"The {more} cost more than the {less}: alone they leave the result "
                     f"{min(weights, activations):.1f} dB, the others "
                     f"{max(weights, activations):.1f} dB.")
    fewest = report["bits"][-1]
    for kind in ("weights", "activations"):
        tried = [(layer["sensitivity"][kind][str(fewest)], layer["name"])
                 for layer in report["layers"]
                 if layer["sensitivity"][kind].get(str(fewest)) is not None]
        if len(tried) > 1:
            (worst, name), (best, other) = min(tried), max(tried)
            found.append(f"Most sensitive to few bits of its {kind} is {name} ({worst:.1f} dB at "
                         f"{fewest} bits), least {other} ({best:.1f} dB).")
    clipped = [layer["name"] for layer in report["layers"] for kind in ("weight", "activation")
               if (errors := layer[f"{kind}_errors"]) and errors["clipping"] > errors["rounding"]]
    if clipped:
        found.append("Clipping costs more than rounding in "
                     f"{_listed(list(dict.fromkeys(clipped)))}.")
    summed = [layer for layer in report["layers"] if layer["accumulator"]]
    if summed:
        widest = max(summed, key=lambda layer: layer["accumulator"]["bits"])
        narrow = sum(layer["accumulator"]["bits"] <= 16 for layer in summed)
        found.append(f"The widest accumulator has {widest['accumulator']['bits']} bits "
                     f"({widest['name']}); {narrow} of {len(summed)} need 16 or fewer.")
    for kind, text in (("narrowed_channels", "Weights became coarser to fit the accumulator in"),
                       ("wider_accumulators", "Accumulators are wider than asked for in")):
        if report[kind]:
            found.append(f"{text} {_listed(list(report[kind]))}.")
    return found


def _listed(names: list[str]) -> str:
    """So many layers, and the first of their names."""
    return (f"{len(names)} {'layer' if len(names) == 1 else 'layers'}: "
            f"{', '.join(names[:MOST_NAMES])}{' and others' if len(names) > MOST_NAMES else ''}")
