"""The peer of `bench.quantize_speed`: onnxruntime's static quantization, per channel, to QDQ.

    python -m bench.peer_quantize NET.onnx CALIB.npz OUT.onnx
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ref.data import load_data
from ref.errors import run_command
from ref.oracles import graph_input


class Samples(CalibrationDataReader):
    """Real samples of a data file, one at a time."""

    def __init__(self, name: str, calib: str) -> None:
        """Read the samples for the input called ``name``."""
        self.feeds = iter([{name: sample[None]} for sample in load_data(calib).real()])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample's feed, or None at the end."""
        return next(self.feeds, None)


def main(arguments: list[str]) -> int:
    """Quantize with 8-bit weights per channel and 8-bit activations; returns the exit code."""
    import onnx

    network, calib, output = arguments
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(network, prepared, skip_symbolic_shape=True)
        reader = Samples(graph_input(onnx.load(prepared)).name, calib)
        quantize_static(prepared, output, reader, QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
