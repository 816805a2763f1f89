"""Copies of a register, for signals that are needed all over a device."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, Signal, Value

#: Registers on the way of a `spread` signal.
GROUPS = 4


def copied(m: Module, platform: Any, value: Value, count: int) -> list[Signal]:
    """``count`` registers, each holding what ``value`` was a cycle ago (any shape, no reset).

    One near each part of what needs it is quicker than one for all. Synthesis merges registers that
    hold the same; on ECP5 these are instances, which it leaves alone.
    """
    copies = [Signal(value.shape(), name=f"copy{k}", reset_less=True) for k in range(count)]
    if getattr(platform, "family", None) != "ecp5":
        m.d.sync += [copy.eq(value) for copy in copies]
        return copies
    for copy in copies:
        for bit, source in zip(Value.cast(copy), Value.cast(value), strict=True):
            m.submodules += Instance(
                "TRELLIS_FF", p_GSR="DISABLED", p_CEMUX="1", p_CLKMUX="CLK", p_LSRMUX="LSR",
                p_REGSET="RESET", i_CLK=ClockSignal(), i_LSR=0, i_DI=source, o_Q=bit)
    return copies


def spread(m: Module, platform: Any, value: Value, count: int) -> list[Signal]:
    """``count`` registers, each holding what ``value`` was two cycles ago, by way of others.

    So half the way across a device is made in each cycle: first to `GROUPS` copies, from each of
    these to its neighbours.
    """
    near = copied(m, platform, value, min(GROUPS, count))
    share = -(-count // len(near))
    return [copy for number, source in enumerate(near)
            for copy in copied(m, platform, source, min(share, count - number * share))]
