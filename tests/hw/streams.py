"""Benches for streams in Amaranth's simulator: put, get, and a run that cannot hang.

The waits are loops over single ticks: a bench left pending in Amaranth 0.5's `until` or `repeat`
ends in a warning on Python 3.12 and older.
"""

import random
from collections.abc import Awaitable, Callable

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator, SimulatorContext

Bench = Callable[[SimulatorContext], Awaitable[None]]


def simulate(dut: Elaboratable, *benches: Bench, background: tuple[Bench, ...] = (),
             cycles: int) -> None:
    """Run until every bench ended; fail after ``cycles`` cycles."""
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    running = len(benches)

    def counted(bench: Bench) -> Bench:
        async def run(ctx: SimulatorContext) -> None:
            nonlocal running
            await bench(ctx)
            running -= 1
        return run

    async def watchdog(ctx: SimulatorContext) -> None:
        for _ in range(cycles):
            await ctx.tick()
            if not running:
                return
        raise AssertionError(f"the simulation did not end within {cycles} cycles")

    for bench in benches:
        simulator.add_testbench(counted(bench), background=True)
    for bench in background:
        simulator.add_testbench(bench, background=True)
    simulator.add_testbench(watchdog)
    simulator.run()


async def wait_for(ctx: SimulatorContext, condition, *values):
    """Tick until ``condition`` held at a clock edge; ``values`` as they were at that edge."""
    while True:
        _, _, held, *sampled = await ctx.tick().sample(condition, *values)
        if held:
            return sampled


async def put(ctx: SimulatorContext, port, value) -> None:
    """Offer one payload until it is taken."""
    ctx.set(port.payload, value)
    ctx.set(port.valid, 1)
    await wait_for(ctx, port.ready)
    ctx.set(port.valid, 0)


async def get(ctx: SimulatorContext, port, stall: float = 0.0,
              rng: random.Random | None = None):
    """Take one payload, not ready with probability ``stall`` in each cycle before."""
    while rng is not None and rng.random() < stall:
        await ctx.tick()
    ctx.set(port.ready, 1)
    payload, = await wait_for(ctx, port.valid, port.payload)
    ctx.set(port.ready, 0)
    return payload


def held_until_ready(port) -> Bench:
    """A bench that fails when an offered payload is withdrawn or changed before it is taken."""
    async def check(ctx: SimulatorContext) -> None:
        waiting = None
        async for _, _, valid, ready, payload in ctx.tick().sample(
                port.valid, port.ready, port.payload):
            if waiting is not None:
                assert valid, "valid was withdrawn before ready"
                assert payload == waiting, f"payload changed from {waiting} to {payload}"
            waiting = payload if valid and not ready else None
    return check
