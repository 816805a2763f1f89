"""The one error a user is meant to read, and the command wrapper that prints it."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can mend: one sentence naming what is wrong, where, and what to do."""


def run_command(main: Callable[[list[str]], int], arguments: list[str] | None = None) -> int:
    """Run a command line and turn a `UserError` into one sentence on stderr and exit code 2.

    ``main`` receives the arguments without ``--debug`` and returns the exit code. With ``--debug``
    anywhere in ``arguments`` (default: ``sys.argv[1:]``) errors keep their traceback. A full disk,
    a missing file and an interrupt are sentences too.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return main(arguments)
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was kept", file=sys.stderr)
        return 130
    except (UserError, OSError, MemoryError) as error:
        if debug:
            raise
        print(f"error: {describe(error)}", file=sys.stderr)
        return 2


def describe(error: BaseException) -> str:
    """One sentence for a `UserError`, an `OSError` (file named) or a `MemoryError`."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}; check the path, its permissions and free space"
    if isinstance(error, MemoryError):
        return "not enough memory; use fewer samples (--samples)"
    return " ".join(str(error).split())
