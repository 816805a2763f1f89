"""The cache of what tools made, by content; and that its disk and the temporary one have room."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .atomic import write_atomically
from .errors import UserError

#: Bytes one step may write. Not all tools notice a full disk.
SPACE = 100 << 20


def cache_path(suffix: str, parts: list[str]) -> Path:
    """The cache file for content described by ``parts``; `UserError` when there can be no cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "shiftwise"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache folder {folder} ({error.strerror}); set "
                        "XDG_CACHE_HOME to a folder that can be written") from None
    return folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}.{suffix}"


def cached_text(parts: list[str], make: Callable[[], str]) -> str:
    """The text ``make`` returns, from the cache when it was made before from the same ``parts``."""
    path = cache_path("txt", parts)
    if not path.exists():
        write_atomically(path, make().encode())
    return path.read_text()


def check_space(cache: Path) -> None:
    """Raise `UserError` when the disk of the ``cache`` or of temporary files is (nearly) full."""
    for folder, variable in ((cache, "XDG_CACHE_HOME"), (Path(tempfile.gettempdir()), "TMPDIR")):
        free = shutil.disk_usage(folder).free
        if free < SPACE:
            raise UserError(f"the disk of {folder} has {free >> 20} MB free and a build needs "
                            f"{SPACE >> 20}; free some space or set {variable} to a folder on "
                            "another disk")
