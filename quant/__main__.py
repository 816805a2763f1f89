"""Command line: ``python -m quant inspect|quantize|analyze|prove|eval|export``."""

from __future__ import annotations

import argparse
import sys

from ref.errors import run_command

from .commands import COMMANDS


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Raises `UserError` for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m quant", description="Float ONNX networks to integers, and what they lose.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        described = commands.add_parser(name, help=command.help, description=command.help)
        command.add_arguments(described)
        described.add_argument("--debug", action="store_true", help="show a traceback on errors")
    options = parser.parse_args(arguments)
    return COMMANDS[options.command].run(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
