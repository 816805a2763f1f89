"""The command line's flags for the quantizer's settings, defined once for every command."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, Literal

from ref.errors import UserError

from .calibrate import METHODS
from .overrides import parse_override
from .presets import (
    CODES,
    PRESETS,
    ROUNDINGS,
    VARYING,
    WEIGHT_CODES,
    WEIGHT_SCALES,
    Settings,
    find_preset,
    with_settings,
)


def _transfer(text: str) -> float | tuple[float, ...] | Literal["search"]:
    """The value of ``--transfer``; a usage error for anything but numbers or "search"."""
    if text == "search":
        return "search"
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers T[,U[,V]] or search, not {text}"
                                         ) from None
    return values[0] if len(values) == 1 else values


def _override(text: str) -> tuple[str, dict[str, int | str]]:
    """The value of one ``--override``; a usage error for text of another form."""
    try:
        return parse_override(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


#: Each flag sets the field of `Settings` that its name (or ``dest``) says; not given: the preset's.
FLAGS: dict[str, dict[str, Any]] = {
    "--weight-bits": {"type": int, "metavar": "BITS", "help": "bits of a weight, 2..8"},
    "--weight-code": {"choices": WEIGHT_CODES,
                      "help": "linear, or AUSN: superposed powers of two, or half of each layer's "
                              "channels each"},
    "--activation-code": {"choices": CODES,
                          "help": "linear or AUSN activations, those without a sign, 2..7 bits"},
    "--activation-bits": {"type": int, "metavar": "BITS", "help": "bits of an activation, 2..8"},
    "--weight-scale": {"choices": WEIGHT_SCALES,
                       "help": "one weight step per output channel (default) or per layer"},
    "--calibration": {"choices": METHODS, "help": "how an activation's range is found"},
    "--transfer": {"type": _transfer, "metavar": "T[,U[,V]]",
                   "help": "TAIT's exponents of activations, of the weights that read them and of "
                           "those that make them, 0..1, or search (default: 0.2; search with "
                           "--weight-scale tensor and in w5a8 and w4a8)"},
    "--rounding": {"choices": ROUNDINGS,
                   "help": "of weights: greedily on the calibration data (default), or nearest"},
    "--input-bits": {"type": int, "metavar": "BITS",
                     "help": "bits of wide input data, 8..15 (default: 8); more than 8 travel as "
                             "two 8-bit planes into the first convolution"},
    "--bias-correction": {"action": argparse.BooleanOptionalAction,
                          "help": "take the weights' mean rounding error out of the bias"},
    "--multiplier-bits": {"type": int, "metavar": "BITS",
                          "help": "bits of the multipliers from sums to results: 15 (default), or "
                                  "1..8 times one of four powers of two"},
    "--accumulator-bits": {"type": int, "metavar": "BITS",
                           "help": "bits that every sum with its bias is proved to fit, 16..32 "
                                   "(default: 24)"},
    "--wider-accumulators": {"action": argparse.BooleanOptionalAction,
                             "help": "layers that cannot fit take the bits they need, and are "
                                     "reported (default: an error)"},
    "--budget": {"metavar": "SIZE",
                 "help": "choose each layer's weight bits so that all weights take no more than "
                         "SIZE: 60kB, 48KiB, or on average 4.5bits"},
    "--override": {"action": "append", "dest": "overrides", "type": _override,
                   "metavar": "REGEX:SETTING=VALUE",
                   "help": f"other {', '.join(VARYING)} for the layers whose whole name REGEX "
                           "matches, as in 'conv1.*:weight_bits=6,activation_bits=8'; may be "
                           "repeated, the last that matches wins"},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--preset`` and `FLAGS` to a command."""
    group = parser.add_argument_group("settings")
    group.add_argument("--preset", metavar="NAME",
                       help=f"{', '.join(PRESETS)} (default: w8a8); the other flags change it")
    for flag, how in FLAGS.items():
        group.add_argument(flag, **how)


def given_flags(options: argparse.Namespace) -> list[str]:
    """The settings' flags that the command line gives, ``--preset`` among them."""
    fields_of = {flag: how.get("dest", flag[2:].replace("-", "_")) for flag, how in FLAGS.items()}
    return [flag for flag, name in ({"--preset": "preset"} | fields_of).items()
            if getattr(options, name) is not None]


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the parsed flags ask for. Raises `UserError` for values out of range."""
    given = {field.name: getattr(options, field.name) for field in fields(Settings)
             if getattr(options, field.name, None) is not None}
    if "overrides" in given:
        patterns = [pattern for pattern, _ in given["overrides"]]
        twice = next((name for name in patterns if patterns.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"the override {twice!r} is given twice; put its settings into one")
        given["overrides"] = dict(given["overrides"])
    return with_settings(find_preset(options.preset or "w8a8"), **given)
