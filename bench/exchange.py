"""What exports and imports of other tools' forms change, into bench/results/exchange.json.

    python -m bench.exchange [NETWORK ...]

For each network: the labels that its QDQ export, run by onnxruntime, changes against the integer
model, and for each form of onnxruntime's static quantization the accuracy of its file, run by
onnxruntime, and of the integer model that takes the file over. Data and networks are those of
`bench.accuracy`; results of other networks stay in the file.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from quant import import_onnx, quantize
from quant.exports import FORMATS
from ref.atomic import write_atomically
from ref.data import Data, load_data
from ref.errors import UserError, run_command
from ref.model import Model
from ref.oracles import float_runner
from ref.run import logits

from .accuracy import NETWORKS, ROOT, data_file

RESULTS = ROOT / "bench" / "results" / "exchange.json"
#: Networks whose results are classes.
CLASSIFIERS = ("digits", "kws", "vww_relu6", "cifar10", "resnet8", "mnist", "imagenet_128")
#: Forms of onnxruntime's quantization: name, graph format, type of maps, whether these are
#: symmetric, and whether weights have a scale per channel.
FORMS = (("qdq", QuantFormat.QDQ, QuantType.QUInt8, False, True),
         ("qdq symmetric", QuantFormat.QDQ, QuantType.QInt8, True, True),
         ("qdq symmetric, per tensor", QuantFormat.QDQ, QuantType.QInt8, True, False),
         ("qoperator symmetric", QuantFormat.QOperator, QuantType.QUInt8, True, True))
#: Calibration samples given to onnxruntime.
SAMPLES = 60


class _Reader:
    """Real calibration samples one by one, as onnxruntime wants them."""

    def __init__(self, name: str, samples: np.ndarray) -> None:
        self.samples = iter([{name: sample[None]} for sample in samples])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, None after the last."""
        return next(self.samples, None)


def measure(network: str, folder: Path) -> dict[str, object]:
    """One network's results; ``folder`` is for the files in between."""
    path = NETWORKS[network][0]
    float_network = import_onnx(path)
    shape = float_network.own_input_shape
    calib, test = (load_data(data_file(network, split)).reshaped(shape)
                   for split in ("calib", "test"))
    real = test.real().astype(np.float32)
    model = quantize(path, calib)
    exported = onnx.ModelProto.FromString(FORMATS["qdq"](model))
    own, qdq = _classes(logits(model, test.x)), _classes(_run(exported, real))
    return {
        "network": network, "samples": len(test.x),
        "float": _accuracy(_classes(_run(path, real)), test),
        "export": {"integer": _accuracy(own, test), "qdq": _accuracy(qdq, test),
                   "changed": int((own != qdq).sum())},
        "import": [_import(path, float_network.input, form, calib, test, folder)
                   for form in FORMS]}


def _import(path: Path, name: str, form: tuple, calib: Data, test: Data, folder: Path
            ) -> dict[str, object]:
    """Accuracy of a file that onnxruntime quantized, and of the model that takes it over."""
    label, written, kind, symmetric, per_channel = form
    folded, made = str(folder / "folded.onnx"), str(folder / "quantized.onnx")
    quant_pre_process(path, folded, skip_symbolic_shape=True)
    samples = calib.head(SAMPLES).real().astype(np.float32)
    quantize_static(folded, made, _Reader(name, samples), quant_format=written,
                    per_channel=per_channel, activation_type=kind, weight_type=QuantType.QInt8,
                    extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True})
    try:
        model: Model = quantize(made, calib)
    except UserError as error:
        return {"form": label, "refused": str(error).replace(str(folder), "")}
    file = _classes(_run(made, test.real().astype(np.float32)))
    ours, kept = _classes(logits(model, test.x)), model.metadata["kept_channels"].values()
    return {"form": label, "file": _accuracy(file, test), "integer": _accuracy(ours, test),
            "changed": int((ours != file).sum()),
            "kept_channels": sum(own for own, _ in kept), "channels": sum(all_ for _, all_ in kept)}


def _run(network: str | Path | onnx.ModelProto, real: np.ndarray) -> np.ndarray:
    """The first result of a network in onnxruntime."""
    return next(iter(float_runner(network)(real).values()))


def _classes(scores: np.ndarray) -> np.ndarray:
    """The label of each sample; of equal scores the first wins."""
    return scores.reshape(len(scores), -1).argmax(axis=1)


def _accuracy(classes: np.ndarray, data: Data) -> float:
    """Percent of right labels."""
    assert data.y is not None
    return round(100 * float((classes == data.y.ravel()).mean()), 3)


def main(arguments: list[str]) -> int:
    """Measure the networks named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.exchange", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(CLASSIFIERS))
    names = parser.parse_args(arguments).networks or CLASSIFIERS
    logging.getLogger().setLevel(logging.ERROR)
    for name in names:
        if name not in CLASSIFIERS:
            raise UserError(f"network {name!r} is unknown; use one of {', '.join(CLASSIFIERS)}")
        with tempfile.TemporaryDirectory() as folder:
            result = measure(name, Path(folder))
        print(json.dumps(result))
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        stored = [one for one in stored if one["network"] != name] + [result]
        write_atomically(RESULTS, (json.dumps(sorted(
            stored, key=lambda one: CLASSIFIERS.index(one["network"])), indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
