"""The one error a user is meant to read, and the command wrapper that prints it."""

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

#: What to do about system errors, by number; the others get all of it.
ADVICE = {
    errno.ENOENT: "check the path",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "check the path",
    errno.EACCES: "check its permissions",
    errno.ENOSPC: "free some space there, or write elsewhere",
}


class UserError(ValueError):
    """Something the user can mend: one sentence naming what is wrong, where, and what to do."""


def run_command(main: Callable[[list[str]], int], arguments: list[str] | None = None) -> int:
    """Run a command line and turn a `UserError` into one sentence on stderr and exit code 2.

    ``main`` receives the arguments without ``--debug`` and returns the exit code. With ``--debug``
    anywhere in ``arguments`` (default: ``sys.argv[1:]``) errors keep their traceback. A full disk,
    a missing file and an interrupt are sentences too. SIGTERM is an interrupt like Ctrl-C:
    temporary files go, and programs that were started end.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _interruptible():
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
        name = error.filename2 or error.filename                 # of a copy: where it goes
        advice = ADVICE.get(error.errno or 0, "check the path, its permissions and free space")
        return f"{name}: {error.strerror.lower()}; {advice}" if name else \
            f"{error.strerror.lower()}; {advice}"
    if isinstance(error, MemoryError):
        return "not enough memory; use fewer samples (--samples)"
    return " ".join(str(error).split())


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM raises `KeyboardInterrupt` inside; in the main thread only, as Python wants it."""
    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
