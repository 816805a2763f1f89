"""One-shot full-integer quantization of float ONNX networks."""

from .balance import Balanced, balance
from .calibrate import Calibration, calibrate
from .graph import FloatNetwork
from .import_onnx import import_onnx
from .presets import PRESETS, WEIGHT_SCALES, Settings, find_preset, with_settings
from .prove import prove
from .quantize import quantize

__all__ = [
    "PRESETS",
    "WEIGHT_SCALES",
    "Balanced",
    "Calibration",
    "FloatNetwork",
    "Settings",
    "balance",
    "calibrate",
    "find_preset",
    "import_onnx",
    "prove",
    "quantize",
    "with_settings",
]
