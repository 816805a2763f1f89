"""Golden vectors: what goes into a network and what every layer makes of it, for any test bench."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import check_folder, write_folder
from .bounds import reach_bound
from .check import check_model
from .data import Data, check_data, load_data
from .errors import UserError, run_command
from .file import load_model
from .model import AveragePool2d, Conv2d, Model
from .npz import npz_bytes
from .run import run_layers

#: The file that tells a folder of golden vectors from any other.
MANIFEST = "manifest.json"


def write_golden(model: Model, data: Data, folder: str | Path, samples: int | None = None
                 ) -> dict[str, Any]:
    """Write the golden vectors of the first ``samples`` of ``data`` (default 1); the manifest.

    ``folder`` is made, or replaced when it holds golden vectors already. In it:

    - ``golden.npz``: ``x`` (the data file's integers), ``map/NAME`` (int64, (N, C, H, W)) of every
      tensor, ``witness/LAYER`` and ``sum/LAYER``: the input window (channels / groups, kernel
      height, width) on which a layer's accumulator proof reaches its bound, and that bound, bias
      included;
    - ``NNN_NAME.hex`` for each tensor and ``NNN_LAYER_witness.hex``: the same integers for
      ``$readmemh``, one a line in the order of the array, in two's complement of the tensor's bits;
    - ``manifest.json``: of each such file its tensor or layer, shape, bits and sign.

    Raises `UserError` when the data do not fit or ``folder`` holds anything else.
    """
    check_model(model)
    check_data(data, model)
    check_folder(folder, MANIFEST)
    if samples is not None and samples < 1:
        raise UserError(f"--samples is {samples}; give 1 or more")
    data = data.head(1 if samples is None else samples).reshaped(model.input.shape)
    files, manifest = _vectors(model, data)
    write_folder(folder, files, MANIFEST)
    return manifest


def _vectors(model: Model, data: Data) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by name, and the manifest, which is one of them."""
    arrays: dict[str, np.ndarray] = {"x": data.x}
    files: dict[str, bytes] = {}
    about_files: list[dict[str, Any]] = []

    def add(name: str, values: np.ndarray, bits: int, signed: bool, **about: str | int) -> None:
        file = f"{len(files):03d}_{_file_name(name)}.hex"
        files[file] = _hexadecimal(values, bits, f"{name} {values.shape}").encode()
        about_files.append({"file": file, **about, "shape": list(values.shape), "bits": bits,
                            "signed": signed})

    maps = run_layers(model, data.x)
    limits = np.iinfo(data.x.dtype)
    add("x", data.x, limits.bits, limits.min < 0, data="x")
    for name, values in maps.items():
        tensor = model.tensors[name]
        arrays[f"map/{name}"] = values
        add(name, values, tensor.bits, tensor.signed, tensor=name)
    for layer in model.layers:
        if isinstance(layer, Conv2d | AveragePool2d):
            source, proof = model.tensors[layer.inputs[0]], layer.proof
            total = reach_bound(layer, proof, source.shape[0])
            arrays[f"witness/{layer.name}"] = proof.witness
            arrays[f"sum/{layer.name}"] = np.array(total)
            add(f"{layer.name}_witness", proof.witness, source.bits, source.signed,
                layer=layer.name, channel=proof.channel, sum=total, sum_bits=proof.bits)
    manifest = {"network": model.name, "samples": len(data), "files": about_files}
    files |= {"golden.npz": npz_bytes(arrays),
              MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}
    return files, manifest


def _hexadecimal(values: np.ndarray, bits: int, title: str) -> str:
    """A file for ``$readmemh``: one value of ``bits`` bits a line."""
    mask, digits = (1 << bits) - 1, (bits + 3) // 4
    lines = (f"{int(value) & mask:0{digits}x}" for value in values.ravel())
    return "\n".join((f"// {title}, {bits} bits", *lines)) + "\n"


def _file_name(name: str) -> str:
    """A tensor's or layer's name with nothing in it that a file system or Verilog may mind."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ref.golden", description=__doc__)
    parser.add_argument("model", metavar="NET.q.npz", help="the quantized model")
    parser.add_argument("--data", metavar="D.npz", required=True, help="samples to run")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="a new folder")
    parser.add_argument("--samples", type=int, metavar="N", help="the first N samples (default 1)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    manifest = write_golden(load_model(options.model), load_data(options.data), options.output,
                            options.samples)
    print(f"wrote {len(manifest['files'])} vectors of {manifest['samples']} samples to "
          f"{options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
