"""The integer model, its meaning, its file, its data and its comparison with other evaluators."""

from .ausn import AusnCode
from .bounds import (
    accumulator_bounds,
    accumulator_proof,
    input_bounds,
    layer_bounds,
    layer_operands,
    propagate,
    requantized_bounds,
    signed_bits,
)
from .check import check_model
from .data import Data, check_data, load_data
from .errors import UserError
from .file import load_model, save_model
from .layers import quantize_input, run_layer
from .model import (
    AccumulatorProof,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Input,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
    Window,
)
from .run import logits, run, run_layers

__all__ = [
    "AccumulatorProof",
    "Add",
    "AusnCode",
    "AveragePool2d",
    "Concat",
    "Conv2d",
    "Data",
    "Input",
    "Layer",
    "MaxPool2d",
    "Model",
    "Requantization",
    "SpaceToDepth",
    "Tensor",
    "UserError",
    "Window",
    "accumulator_bounds",
    "accumulator_proof",
    "check_data",
    "check_model",
    "input_bounds",
    "layer_bounds",
    "layer_operands",
    "load_data",
    "load_model",
    "logits",
    "propagate",
    "quantize_input",
    "requantized_bounds",
    "run",
    "run_layer",
    "run_layers",
    "save_model",
    "signed_bits",
]
