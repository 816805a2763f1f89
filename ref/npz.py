"""Reading and writing .npz archives: arrays only, never pickle, damage told in one sentence."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError

#: What numpy and zipfile raise on damaged or foreign bytes.
_DAMAGE = (ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, SyntaxError,
           zipfile.BadZipFile, zlib.error)


def read_npz(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """All arrays of the .npz archive at ``path``, by name.

    ``what`` names the expected content in messages, e.g. ``"data file"``. Raises `UserError` when
    the file is not an .npz archive, is damaged or holds Python objects (they would need pickle,
    which can run code); `OSError` when it cannot be read.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise UserError(f"{path} is not a {what}: not an .npz archive, or cut short; "
                            "make the file again")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except _DAMAGE as error:
            raise UserError(f"{path} is a damaged {what} ({error}); make the file again"
                            ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):    # a member that is not .npy comes back as bytes
            raise UserError(f"{path} is not a {what}: its member {name!r} is not an array; "
                            "make the file with numpy.savez")
    return arrays


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """The content of a compressed .npz archive of ``arrays``, the same for the same arrays.

    Unlike `numpy.savez_compressed` it takes every name.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")      # dated 1980: no clock in the bytes
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(values), allow_pickle=False)
    return content.getvalue()
