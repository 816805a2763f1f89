"""Writing files so that a reader never meets a half-written one."""

from __future__ import annotations

import os
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


def check_output(path: str | Path) -> None:
    """Raise `UserError` when no file can be at ``path``: to find out before the work, not after."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"the directory {path.parent} of the output does not exist; create it "
                        "or choose another")
    if path.is_dir():
        raise UserError(f"the output {path} is a directory; name a file")
