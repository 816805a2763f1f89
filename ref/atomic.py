"""Writing files and folders so that a reader never meets a half-written one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import UserError


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` in one step, or leave it as it was.

    The bytes go to a temporary file in the same directory first, which is removed when anything
    fails or the writer is interrupted. Raises `OSError` naming ``path``, e.g. for a full disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None    # not the temporary file's
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Raise `UserError` when no file can be at ``path``: to find out before the work, not after.

    Also when it is one of the files ``inputs``, which it would replace.
    """
    path = Path(path)
    for given in inputs:
        if path.exists() and Path(given).exists() and path.samefile(given):
            raise UserError(f"the output {path} is an input of the command, too, and would be "
                            "replaced; choose another name")
    if not path.parent.is_dir():
        raise UserError(f"the directory {path.parent} of the output does not exist; create it "
                        "or choose another")
    if path.is_dir():
        raise UserError(f"the output {path} is a directory; name a file")


def write_folder(folder: str | Path, files: Mapping[str, bytes], marker: str) -> None:
    """Make ``folder`` hold exactly ``files`` (name to content), or leave it as it was.

    ``marker`` names the one of them that tells such a folder from any other; see `check_folder`.
    """
    check_folder(folder, marker)
    folder = Path(folder).absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        if folder.is_dir():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(folder: str | Path, marker: str) -> None:
    """Raise `UserError` unless ``folder`` is absent, empty or holds ``marker``: one to replace."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the output {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file():
        raise UserError(f"the folder {folder} holds other files; name a new or an empty one")
    if not folder.absolute().parent.is_dir():
        raise UserError(f"the folder {folder.parent} of the output does not exist; create it or "
                        "choose another")
