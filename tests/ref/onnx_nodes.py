"""The operator cases that the ONNX project publishes, run by this project's integer operators."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import onnx
from onnx import numpy_helper

from ref import Data, Requantization, Window, ops
from ref.arithmetic import Arithmetic
