"""The text of a weight budget, as in 60kB or 4.5bits, and how many bits it allows."""

from __future__ import annotations

import re

from ref.errors import UserError

#: Bits of each unit; "bits" are per weight.
UNITS = {"B": 8.0, "kB": 8e3, "KiB": 8.0 * 1024, "MB": 8e6, "MiB": 8.0 * 1024 ** 2}


def budget_bits(text: str, weights: int) -> float:
    """Bits that ``weights`` weights may take together under the budget ``text``.

    A number and a unit: B, kB (1,000 bytes), KiB (1,024), MB, MiB for all weights together, or
    "bits" for the average width of a weight. Raises `UserError` for text of another form.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?([A-Za-z]+)", text) if isinstance(
        text, str) else None
    if found is None or found[2] not in (*UNITS, "bits", "bit") or float(found[1]) == 0:
        raise UserError(f"the budget {text!r} is not a size of weights; write for example 60kB, "
                        "48KiB or 4.5bits (the average of a weight)")
    return float(found[1]) * UNITS.get(found[2], float(weights))
