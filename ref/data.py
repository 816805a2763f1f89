"""Data files: integer samples, their labels and what one integer step is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import UserError
from .linear import dequantize_linear
from .model import Model
from .npz import read_npz

#: The integer types a data file's ``x`` may have.
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32")


@dataclass(frozen=True, eq=False)
class Data:
    """Samples ``x`` (integers, first axis the samples) with labels ``y`` (same first axis) or None.

    The real input is ``(x - x_zero_point) * x_scale``; both are float64, scalar arrays or one entry
    per channel, and the channels are the first axis of a sample. ``source`` is their name in
    messages: the file's, if any.
    """

    x: np.ndarray                           # (N, ...), one of DTYPES
    y: np.ndarray | None                    # (N, ...) numbers
    x_scale: np.ndarray                     # () or (C,), float64, > 0
    x_zero_point: np.ndarray                # () or (C,), float64
    source: str = "the data"

    def real(self, dtype: type[np.floating] = np.float32) -> np.ndarray:
        """The real input, shaped like ``x``; computed in float64, returned as ``dtype``."""
        return dequantize_linear(self.x, self.x_scale, self.x_zero_point).astype(dtype)

    def head(self, samples: int | None) -> Data:
        """The first ``samples`` samples (None: all of them)."""
        if samples is None:
            return self
        if samples < 1:
            raise UserError(f"{samples} samples asked for; ask for at least one")
        labels = None if self.y is None else self.y[:samples]
        return Data(self.x[:samples], labels, self.x_scale, self.x_zero_point, self.source)

    def reshaped(self, shape: tuple[int, ...]) -> Data:
        """The same samples with another ``shape`` each."""
        return replace(self, x=self.x.reshape(-1, *shape))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.x)


def load_data(path: str | Path) -> Data:
    """Read a data file: .npz with ``x`` and optionally ``y``, ``x_scale``, ``x_zero_point``.

    The scale is 1 and the zero point 0 where the file holds none. Raises `UserError` for a file
    that is damaged, lacks ``x``, or holds something other than integers of at most 32 bits in it.
    """
    arrays = read_npz(path, "data file")
    if "x" not in arrays:
        raise UserError(f"{path} holds no array named x; store the samples as integers under x")
    x = arrays["x"]
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype.kind == "f":
        raise UserError(f"{path}: x is {x.dtype.name}, and samples are integers; store "
                        "round(real / x_scale) + x_zero_point as int8, uint8 or int16, and x_scale "
                        "and x_zero_point beside it")
    if x.dtype.name not in DTYPES:
        raise UserError(f"{path}: x is {x.dtype.name}; store it as one of {', '.join(DTYPES)}")
    if x.ndim < 2 or x.size == 0:
        raise UserError(f"{path}: x has shape {x.shape}; its first axis holds the samples (one at "
                        "least) and the others the network's own input shape")
    y = arrays.get("y")
    if y is not None and (y.dtype.kind not in "iuf" or y.ndim == 0 or len(y) != len(x)):
        raise UserError(f"{path}: y is {y.dtype.name} of shape {y.shape} for {len(x)} samples; "
                        "store one number (or row of numbers) per sample, or leave y out")
    scale = _per_channel(arrays, "x_scale", 1.0, x, path)
    if not np.all(scale > 0):
        raise UserError(f"{path}: x_scale must be larger than 0 everywhere; mend the file")
    return Data(x, y, scale, _per_channel(arrays, "x_zero_point", 0.0, x, path), str(path))


def check_data(data: Data, model: Model) -> None:
    """Raise `UserError` unless ``data`` is what ``model`` was made for: shape, dtype and scale."""
    if not is_sample_shape(data.x.shape[1:], model):
        raise UserError(f"{data.source}'s samples have shape {data.x.shape[1:]}, and the network "
                        f"{model.name!r} takes {model.input.shape}; use data of that shape")
    if data.x.dtype.name != model.input.dtype:
        raise UserError(f"{data.source}'s x is {data.x.dtype.name}, and the network "
                        f"{model.name!r} was quantized for {model.input.dtype}; store x as "
                        f"{model.input.dtype} or quantize again with such calibration data")
    for name in ("x_scale", "x_zero_point"):
        given, expected = getattr(data, name), getattr(model.input, name)
        # Relative 1e-6 lets float32 and float64 copies of one number pass.
        if not np.allclose(given, expected, rtol=1e-6, atol=0):
            raise UserError(f"{data.source}'s {name} is {given.tolist()}, and the network "
                            f"{model.name!r} was quantized for {expected.tolist()}; use data "
                            "of the same scale or quantize again")


def as_integers(real: np.ndarray, model: Model) -> np.ndarray:
    """Real samples (N, ...) as the data-file integers that ``model`` takes, rounded and clipped."""
    limits = np.iinfo(model.input.dtype)
    per_channel = (-1,) + (1,) * (real.ndim - 2)
    x = np.rint(real / model.input.x_scale.reshape(per_channel)
                + model.input.x_zero_point.reshape(per_channel))
    return np.clip(x, limits.min, limits.max).astype(model.input.dtype)


def class_labels(data: Data, model: Model) -> np.ndarray | None:
    """The class numbers (N,), also of a column (N, 1); None when data or network have none."""
    if data.y is None or model.output_tensor.shape[1:] != (1, 1):
        return None
    labels = data.y[:, 0] if data.y.shape[1:] == (1,) else data.y
    return labels if labels.ndim == 1 and labels.dtype.kind in "iu" else None


def is_sample_shape(shape: tuple[int, ...], model: Model) -> bool:
    """Whether samples of ``shape`` are the network's own, or mean the map that it reads."""
    return shape == model.input.shape or has_sample_shape(shape, model.sample_shape)


def has_sample_shape(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> bool:
    """Whether samples of ``shape`` mean the feature map ``wanted``, (C, H, W).

    Axes of 1 may be left out: ``(C,)`` and ``(C, H)`` lack trailing axes, ``(H, W)`` the single
    channel. A vector (C, 1, 1) takes any shape of C values.
    """
    channels, height, width = wanted
    return (shape == wanted or (height == width == 1 and math.prod(shape) == channels)
            or (width == 1 and shape == (channels, height))
            or (channels == 1 and shape == (height, width)))


def _per_channel(arrays: dict[str, np.ndarray], name: str, default: float, x: np.ndarray,
                 path: str | Path) -> np.ndarray:
    """The finite float64 array ``name``, () or (channels of x,); an array (1,) is one number."""
    value = np.asarray(arrays.get(name, default))
    value = value.reshape(()) if value.shape == (1,) else value
    if (value.dtype.kind not in "iuf" or value.shape not in ((), (x.shape[1],))
            or not np.isfinite(value).all()):
        raise UserError(f"{path}: {name} must be one finite number or one per channel "
                        f"({x.shape[1]}), not {value.dtype.name} of shape {value.shape}; mend it")
    return value.astype(np.float64)
