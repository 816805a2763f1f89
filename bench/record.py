"""Results files of measurements: one entry for each network and setting, the newest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ref.atomic import write_atomically
from ref.errors import UserError


def record(path: Path, entry: dict[str, Any], keys: tuple[str, ...], **about: str) -> None:
    """Put ``entry`` into the file's "results", in the place of an older one with the same ``keys``.

    ``about`` stands before the results: the versions of what was measured with.
    """
    stored = json.loads(path.read_text())["results"] if path.exists() else []
    results = {tuple(old[key] for key in keys): old for old in stored}
    results[tuple(entry[key] for key in keys)] = entry
    text = json.dumps({**about, "results": list(results.values())}, indent=1) + "\n"
    write_atomically(path, text.encode())


def check_networks(names: Iterable[str], known: Collection[str]) -> None:
    """Raise `UserError` for a network that is not among the ``known`` ones."""
    unknown = set(names) - set(known)
    if unknown:
        raise UserError(f"unknown network {min(unknown)!r}; choose among {', '.join(known)}")
