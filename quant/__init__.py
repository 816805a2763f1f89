"""One-shot full-integer quantization of float ONNX networks."""

from .accuracy import accuracy_report
from .analyze import analyze
from .balance import Balanced, balance
from .calibrate import Calibration, calibrate
from .exports import export
from .graph import FloatNetwork
from .import_onnx import import_onnx
from .inspect import inspect
from .presets import PRESETS, WEIGHT_SCALES, Settings, find_preset, with_settings
from .prove import prove, prove_report
from .quantize import prepare, quantize

__all__ = [
    "PRESETS",
    "WEIGHT_SCALES",
    "Balanced",
    "Calibration",
    "FloatNetwork",
    "Settings",
    "accuracy_report",
    "analyze",
    "balance",
    "calibrate",
    "export",
    "find_preset",
    "import_onnx",
    "inspect",
    "prepare",
    "prove",
    "prove_report",
    "quantize",
    "with_settings",
]
