"""`python -m hw.run` over a pseudo-terminal with the simulated top level at its other end."""

import json
import os
import pty
import threading
import tty
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import pytest
from amaranth.sim import Simulator

import hw.run
from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.top import Core
from ref.errors import UserError, run_command
from ref.file import save_model
from ref.run import run
from tests.ref.random_models import random_model, random_samples

CONFIG = EngineConfig(channels=2, pixels=2, requantizers=1, tape_depth=512,
                      activation_depth=256, single_port=True)
DIVISOR = 4


class SimulatedBoard:
    """A `Core` in Amaranth's simulator whose serial line is the master side of a pseudo-terminal.

    ``damage(number, byte)`` gives the byte that the board receives as its ``number``th.
    """

    def __init__(self, config, damage=lambda number, byte: byte):
        self.core = Core(config, DIVISOR, silence_bits=256)
        self.damage = damage
        self.stop = threading.Event()
        self.problem = None
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.port = os.ttyname(slave)
        self.slave = slave               # stays open: the line exists before and after the host

    async def receive(self, ctx):
        """From the terminal to the line."""
        number = 0
        while not self.stop.is_set():
            try:
                arrived = os.read(self.master, 64)
            except BlockingIOError:
                await ctx.tick()
                continue
            for byte in arrived:
                frame = self.damage(number, byte) << 1 | 0x200
                number += 1
                for bit in range(10):
                    ctx.set(self.core.rx, frame >> bit & 1)
                    for _ in range(DIVISOR):
                        await ctx.tick()

    async def send(self, ctx):
        """From the line to the terminal."""
        while True:
            _, _, level = await ctx.tick().sample(self.core.tx)
            if level:
                continue
            byte = 0
            for bit in range(9):         # the last sample is the stop bit's
                for _ in range(DIVISOR):
                    _, _, level = await ctx.tick().sample(self.core.tx)
                byte |= level << bit
            assert byte >> 8, "the stop bit is low"
            os.write(self.master, bytes([byte & 0xFF]))

    def simulate(self):
        try:
            simulator = Simulator(self.core)
            simulator.add_clock(1e-6)
            simulator.add_testbench(self.receive)
            simulator.add_testbench(self.send, background=True)
            simulator.run()
        except BaseException as problem:   # shown by the test's own thread
            self.problem = problem

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.simulate)
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            thread.join()
            os.close(self.slave)
            os.close(self.master)
        if self.problem is not None:
            raise self.problem


def write_build(folder, model, config=CONFIG):
    """What `hw.build` leaves in its output directory, as far as `hw.run` reads it."""
    save_model(model, folder / "network.q.npz")
    (folder / "report.json").write_text(json.dumps({"engine": asdict(config), "clock_mhz": 24.0}))


@pytest.fixture(scope="module")
def network():
    """A network of a few hundred bytes, two samples, and labels of which the first is right."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        model = random_model(rng, layers=2, kinds=("depthwise", "pointwise"), channels=4,
                             size=4)
        try:
            program = compile_program(model, CONFIG)
        except UserError:                # a random network may be more general than the engine
            continue
        if model.output_tensor.shape[0] > 2 and len(program.tape) < 150:
            x = random_samples(rng, model)
            scores = run(model, x)[:, :, 0, 0] * model.output_tensor.scale
            first, second = scores.argmax(axis=1)
            return model, x, [first, second + 1]
    raise AssertionError("no network of that size")


@pytest.fixture
def files(network, tmp_path, monkeypatch):
    """A build directory and a data file; and time for a slow board."""
    model, x, labels = network
    write_build(tmp_path, model)
    np.savez(tmp_path / "data.npz", x=x, y=labels, x_scale=model.input.x_scale,
             x_zero_point=model.input.x_zero_point)
    monkeypatch.setattr(hw.run, "ANSWER_TIMEOUT", 30.0)
    return tmp_path


def hw_run(files, port, *more):
    return run_command(hw.run.main, ["--port", port, "--data", str(files / "data.npz"),
                                     "--build", str(files), "--json", str(files / "result.json"),
                                     *more])


def test_board_equals_reference(files, network, capsys):
    model, _, _ = network
    program = compile_program(model, CONFIG)
    # one bit of the tape's first bytes arrives wrong: the frame is repeated, nothing else happens
    board = SimulatedBoard(CONFIG, damage=lambda number, byte: byte ^ (number == 20) << 6)
    with board.running():
        assert hw_run(files, board.port) == 0
    result = json.loads((files / "result.json").read_text())
    cycles = result.pop("cycles_per_inference")
    predicted = sum(layer.predicted_cycles for layer in program.layers)
    assert predicted <= cycles < predicted + 50
    assert result == {"samples": 2, "metric": "top-1", "accuracy": 50.0, "mismatches": 0,
                      "first_mismatch": None, "latency_ms": cycles / 24000}
    assert capsys.readouterr().out.splitlines() == [
        f"load      {program.tape.size} bytes of program",
        "run       2 samples  accuracy 50.00 %",
        f"latency   {cycles} cycles  {cycles / 24000:.3f} ms @ 24 MHz",
        "compare   0 mismatches with the reference"]


def test_mismatch_is_found(files, monkeypatch, capsys):
    """A reference that differs in one integer of the first sample."""
    def other(model, x):
        result = run(model, x)
        result[0, 1, 0, 0] += 1
        return result

    monkeypatch.setattr(hw.run, "run", other)
    board = SimulatedBoard(CONFIG)
    with board.running():
        assert hw_run(files, board.port, "--samples", "1") == 1
    assert json.loads((files / "result.json").read_text())["mismatches"] == 1
    assert "1 mismatches with the reference; the first: sample 0, channel 1, row 0, column 0: " \
        in capsys.readouterr().out


def test_other_bitstream(files, capsys):
    board = SimulatedBoard(replace(CONFIG, activation_depth=128))
    with board.running():
        assert hw_run(files, board.port) == 2
    assert "the board holds another bitstream" in capsys.readouterr().err
    assert not (files / "result.json").exists()


def test_nobody_there(files, monkeypatch, capsys):
    """A port that exists, with nothing behind it."""
    monkeypatch.setattr(hw.run, "ANSWER_TIMEOUT", 0.01)
    master, slave = pty.openpty()
    assert hw_run(files, os.ttyname(slave)) == 2
    os.close(slave)
    os.close(master)
    assert "no answer to INFO in 4 attempts" in capsys.readouterr().err


def test_no_such_port(files, capsys):
    assert hw_run(files, str(files / "ttyUSB9")) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: cannot open port {files / 'ttyUSB9'} (")
    assert message.endswith("); check the cable, the name and your permission to use it\n")


@pytest.mark.parametrize("damage, sentence", [
    (lambda path: path.unlink(), "does not exist; build first (python -m hw.build) or name its "
                                 "output directory with --build"),
    (lambda path: path.write_text("{"), "is not a report of python -m hw.build; build again"),
    (lambda path: path.write_text('{"engine": {"lanes": 3}, "clock_mhz": 24}'),
     "is not a report of python -m hw.build; build again"),
])
def test_bad_report(files, damage, sentence, capsys):
    damage(files / "report.json")
    assert hw_run(files, "unused") == 2
    assert capsys.readouterr().err == f"error: {files / 'report.json'} {sentence}\n"
