"""Writing files so that a reader never meets a half-written one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` in one step, or leave it as it was.

    The bytes go to a temporary file in the same directory first, which is removed when anything
    fails or the writer is interrupted. Raises `OSError`, e.g. for a full disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
