"""What a command line says about errors, interrupts and outputs that cannot be."""

import errno
import os
import signal

import numpy as np
import pytest

from ref.atomic import check_output, write_atomically
from ref.data import has_sample_shape
from ref.errors import UserError, describe, run_command


@pytest.mark.parametrize("error, sentence", [
    (UserError("first\n  second"), "first second"),
    (OSError(errno.ENOENT, "No such file", "a.npz"), "a.npz: no such file; check the path"),
    (OSError(errno.ENOSPC, "No space left", "from", None, "to"),
     "to: no space left; free some space there, or write elsewhere"),
    (OSError(errno.EIO, "Input/output error", "a"),
     "a: input/output error; check the path, its permissions and free space"),
    (OSError(errno.EACCES, "Permission denied"), "permission denied; check its permissions"),
    (MemoryError(), "not enough memory; use fewer samples (--samples)"),
])
def test_descriptions(error, sentence):
    assert describe(error) == sentence


@pytest.fixture
def interruptible():
    """SIGINT as in a terminal; a process started under nohup ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_command_in_order(capsys, interruptible, number):
    """What the command holds open is closed, and the handler is the old one afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    closed = []

    def main(arguments):
        try:
            os.kill(os.getpid(), number)
        finally:
            closed.append(True)
        return 0

    assert run_command(main, []) == 130
    assert closed and signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "interrupted; nothing half-written was kept\n"


def test_a_failed_write_names_the_file_and_leaves_it(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError) as raised:
        write_atomically(tmp_path / "a", b"new")
    assert raised.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_outputs_that_cannot_be(tmp_path):
    check_output(tmp_path / "new")
    with pytest.raises(UserError, match=r"is a directory; name a file"):
        check_output(tmp_path)
    with pytest.raises(UserError, match=r"the directory .*none of the output does not exist"):
        check_output(tmp_path / "none" / "new")


def test_sample_shapes():
    """Axes of 1 may be left out; a vector takes whatever shape an image had before flattening."""
    taken = {(3, 4, 5): [(3, 4, 5)], (1, 4, 5): [(1, 4, 5), (4, 5)],
             (6, 5, 1): [(6, 5, 1), (6, 5)], (30, 1, 1): [(30,), (30, 1, 1), (2, 3, 5), (6, 5)]}
    shapes = {shape for group in taken.values() for shape in group} | {(60,), (5, 4), (5, 6)}
    for wanted, expected in taken.items():
        found = {shape for shape in shapes if has_sample_shape(shape, wanted)}
        if wanted[1:] == (1, 1):
            expected = [shape for shape in shapes if np.prod(shape) == 30]
        assert found == set(expected)
