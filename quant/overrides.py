"""Overrides of single layers' settings: from a command line's text, and against a network."""

from __future__ import annotations

import re

from ref.errors import UserError

from .graph import PASSING, FloatConv, FloatNetwork
from .presets import Settings


def parse_override(text: str) -> tuple[str, dict[str, int | str]]:
    """Pattern and settings of ``REGEX:setting=value,setting=value``; whole numbers become int.

    The last colon ends the pattern. Raises `UserError` for text of another form; which settings
    and values exist is checked by `Settings`.
    """
    pattern, colon, changes = text.rpartition(":")
    pairs = [change.partition("=") for change in changes.split(",")]
    if not colon or not pattern or not all(name and value for name, _, value in pairs):
        raise UserError(f"the override {text!r} is not of the form REGEX:setting=value; write for "
                        "example 'conv1.*:weight_bits=6,activation_bits=8'")
    return pattern, {name.strip(): int(value) if value.strip().isdecimal() else value.strip()
                     for name, _, value in pairs}


def check_overrides(settings: Settings, network: FloatNetwork) -> None:
    """Raise `UserError` for a pattern that matches no layer, or none that its settings are for.

    Weights' settings are for convolutions, those of activations for layers that make new integers;
    class scores keep their 8 bits.
    """
    names = ", ".join(layer.name for layer in network.layers)
    for pattern, changes in settings.overrides.items():
        matched = [layer for layer in network.layers if re.fullmatch(pattern, layer.name)]
        if not matched:
            raise UserError(f"the override {pattern!r} matches no layer of {network.name!r}; its "
                            f"layers are {names}")
        for name in changes:
            if name in ("activation_bits", "activation_code"):
                fitting = [layer for layer in matched if layer.output != network.output
                           and not isinstance(layer, PASSING)]
                kind = "makes new activations"
            else:
                fitting = [layer for layer in matched if isinstance(layer, FloatConv)]
                kind = "has weights"
            if not fitting:
                raise UserError(f"the override {pattern!r} sets {name}, and no layer it matches "
                                f"{kind}; name others, or leave it out")
