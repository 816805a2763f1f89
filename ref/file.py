"""The quantized model's file, NET.q.npz: its arrays and one JSON text, no pickle, versioned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_atomically
from .ausn import AusnCode
from .check import check_model
from .errors import UserError
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
from .npz import npz_bytes, read_npz

#: Says that an .npz archive is a model of this project.
FORMAT = "shiftwise-model"
#: Number of the layout below; it grows when an older reader would misread a newer file.
VERSION = 7
#: Versions that can be read: 6 knows no layers of which only some channels have a code.
READABLE = (6, VERSION)

_HEADER = "model"


def save_model(model: Model, path: str | Path) -> None:
    """Write ``model`` to ``path``, which is replaced in one step or left as it was.

    Raises `UserError` when the model is malformed and `OSError` when it cannot be written.
    """
    write_atomically(path, model_bytes(model))


def model_bytes(model: Model) -> bytes:
    """The content of a model's file; the same model always gives the same bytes.

    Raises `UserError` when the model is malformed.
    """
    check_model(model)
    arrays: dict[str, np.ndarray] = {"input.x_scale": model.input.x_scale,
                                     "input.x_zero_point": model.input.x_zero_point}
    for index, tensor in enumerate(model.tensors.values()):
        arrays[f"tensor.{index}.scale"] = tensor.scale
    layers = [_layer_header(layer, f"layer.{index}.", arrays)
              for index, layer in enumerate(model.layers)]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "name": model.name,
        "input": {"tensor": model.input.tensor, "dtype": model.input.dtype,
                  "multiplier": model.input.multiplier, "shift": model.input.shift,
                  "shape": list(model.input.shape), "low_bits": model.input.low_bits},
        "tensors": [{"name": tensor.name, "shape": list(tensor.shape), "bits": tensor.bits,
                     "signed": tensor.signed} for tensor in model.tensors.values()],
        "layers": layers,
        "metadata": model.metadata,
    }
    return npz_bytes({_HEADER: np.array(json.dumps(header)), **arrays})


def load_model(path: str | Path) -> Model:
    """Read and check a model written by `save_model`.

    Raises `UserError` for a file that is damaged, foreign, of a newer version or malformed, and
    `OSError` when it cannot be read.
    """
    arrays = read_npz(path, "quantized model (NET.q.npz)")
    header = _read_header(path, arrays)
    try:
        model = _build(header, arrays)
        check_model(model)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is a damaged quantized model ({type(error).__name__}: {error}); "
                        "quantize the network again") from error
    return model


def _read_header(path: str | Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON object of the file, of this format and a version that can be read."""
    text = arrays.get(_HEADER)
    try:
        header = json.loads(str(text)) if text is not None and text.dtype.kind == "U" else None
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path} is not a quantized model (NET.q.npz); make one with "
                        "python -m quant quantize")
    if header.get("version") not in READABLE:
        raise UserError(f"{path} has format version {header.get('version')}, and this program "
                        f"reads versions {READABLE[0]} to {VERSION}; use the matching program or "
                        "quantize again")
    return header


def _layer_header(layer: Layer, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON part of a layer; its arrays go to ``arrays`` under ``prefix``."""
    header: dict[str, Any] = {"kind": type(layer).__name__, "name": layer.name,
                              "inputs": list(layer.inputs), "output": layer.output}
    if isinstance(layer, Conv2d | AveragePool2d | MaxPool2d):
        window = layer.window
        header["window"] = {"kernel": list(window.kernel), "stride": list(window.stride),
                            "pads": list(window.pads)}
    if isinstance(layer, Conv2d):
        header |= {"weight_bits": layer.weight_bits, "groups": layer.groups,
                   "weight_code": _code_header(layer.weight_code),
                   "mixed": layer.coded is not None}
        arrays[prefix + "weight"] = layer.weight
        arrays[prefix + "pad_value"] = layer.pad_value
        if layer.coded is not None:
            arrays[prefix + "coded"] = layer.coded
    if isinstance(layer, Conv2d | AveragePool2d):
        rule, proof = layer.requantization, layer.proof
        header |= {"shift": rule.shift, "code": _code_header(rule.code),
                   "proof": {"bits": proof.bits, "lo": proof.lo, "hi": proof.hi,
                             "channel": proof.channel}}
        arrays[prefix + "witness"] = proof.witness
        for name in ("bias", "multiplier", "lo", "hi"):
            arrays[prefix + name] = getattr(rule, name)
        header["leaky"] = rule.multiplier_negative is not None
        if rule.multiplier_negative is not None:
            arrays[prefix + "multiplier_negative"] = rule.multiplier_negative
    if isinstance(layer, Add):
        header |= {"shift": layer.shift, "code": _code_header(layer.code)}
        for name in ("multiplier", "lo", "hi"):
            arrays[prefix + name] = getattr(layer, name)
    return header


def _code_header(code: AusnCode | None) -> list[int] | None:
    """The header entry of a code; the linear one is None."""
    return None if code is None else [code.exponent, code.superposition]


def _build(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Model:
    """The model of a header and its arrays; malformed content raises whatever it provokes."""
    tensors = {}
    for index, entry in enumerate(header["tensors"]):
        channels, height, width = map(int, entry["shape"])
        tensors[entry["name"]] = Tensor(
            entry["name"], (channels, height, width), int(entry["bits"]), bool(entry["signed"]),
            arrays[f"tensor.{index}.scale"])
    rule = header["input"]
    return Model(
        name=str(header["name"]),
        input=Input(rule["tensor"], str(rule["dtype"]), int(rule["multiplier"]), int(rule["shift"]),
                    arrays["input.x_scale"], arrays["input.x_zero_point"],
                    tuple(map(int, rule["shape"])), int(rule["low_bits"])),
        tensors=tensors,
        layers=tuple(_build_layer(entry, f"layer.{index}.", arrays)
                     for index, entry in enumerate(header["layers"])),
        metadata=dict(header["metadata"]),
    )


def _build_layer(entry: dict[str, Any], prefix: str, arrays: dict[str, np.ndarray]) -> Layer:
    """One layer of a header entry and the arrays under ``prefix``."""
    common: dict[str, Any] = {"name": str(entry["name"]), "inputs": tuple(entry["inputs"]),
                              "output": entry["output"]}
    match entry["kind"]:
        case "Add":
            return Add(**common, multiplier=arrays[prefix + "multiplier"],
                       shift=int(entry["shift"]), lo=arrays[prefix + "lo"],
                       hi=arrays[prefix + "hi"], code=_build_code(entry["code"]))
        case "Concat":
            return Concat(**common)
        case "SpaceToDepth":
            return SpaceToDepth(**common)
        case "MaxPool2d":
            return MaxPool2d(**common, window=_build_window(entry))
        case "AveragePool2d":
            return AveragePool2d(**common, **_build_sum(entry, prefix, arrays))
        case "Conv2d":
            return Conv2d(**common, **_build_sum(entry, prefix, arrays),
                          weight=arrays[prefix + "weight"], weight_bits=int(entry["weight_bits"]),
                          groups=int(entry["groups"]), pad_value=arrays[prefix + "pad_value"],
                          weight_code=_build_code(entry["weight_code"]),
                          coded=arrays[prefix + "coded"] if entry.get("mixed") else None)
    raise UserError(f"layer {entry['name']!r} is of unknown kind {entry['kind']!r}; use a newer "
                    "version")


def _build_code(entry: list[int] | None) -> AusnCode | None:
    """The code of a header entry; None is the linear one."""
    return None if entry is None else AusnCode(*map(int, entry))


def _build_window(entry: dict[str, Any]) -> Window:
    """The window of a header entry."""
    vertical, horizontal = map(int, entry["window"]["kernel"])
    down, right = map(int, entry["window"]["stride"])
    top, left, bottom, after = map(int, entry["window"]["pads"])
    return Window((vertical, horizontal), (down, right), (top, left, bottom, after))


def _build_sum(entry: dict[str, Any], prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Window, requantization and proof of a layer that adds up its window."""
    names = ("bias", "multiplier", "lo", "hi") + ("multiplier_negative",) * bool(entry["leaky"])
    proof = entry["proof"]
    return {
        "window": _build_window(entry),
        "requantization": Requantization(shift=int(entry["shift"]), code=_build_code(entry["code"]),
                                         **{name: arrays[prefix + name] for name in names}),
        "proof": AccumulatorProof(
            bits=int(proof["bits"]), lo=int(proof["lo"]), hi=int(proof["hi"]),
            channel=int(proof["channel"]), witness=arrays[prefix + "witness"]),
    }
