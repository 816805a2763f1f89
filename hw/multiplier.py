"""Multipliers of the array, of the blocks that each family of devices has."""

from typing import Any

from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Shape,
    Signal,
    signed,
    unsigned,
)
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .adder import ChoosingAdder
from .multiplier_blocks import gowin_block, ice40_block, nexus_block, nexus_sum_block
from .packing import PIXELS


class MultiplierPair(wiring.Component):
    """Two independent products of an unsigned activation and a signed weight.

    ``o[k] = x[k] * w[k]``, one pair per cycle, :attr:`latency` cycles later. Equal to Python's
    ``*`` over all operands. On iCE40 both products share one ``SB_MAC16`` in its dual 8x8 mode, on
    Nexus and Gowin each takes a ``MULT9X9``; on ECP5 synthesis finds the blocks by itself.

    Members
    -------
    x : In(2 x unsigned(8)), w : In(2 x signed(8)), o : Out(2 x signed(16))
    """

    latency = 2

    def __init__(self) -> None:
        super().__init__({
            "x": In(data.ArrayLayout(unsigned(8), 2)),
            "w": In(data.ArrayLayout(signed(8), 2)),
            "o": Out(data.ArrayLayout(signed(16), 2)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Registers, products, registers; or the one block that contains them."""
        m = Module()
        family = getattr(platform, "family", None)
        if family in ("nexus", "gowin"):
            for k in range(2):
                m.submodules[f"multiplier{k}"] = multiplier = Multiplier(unsigned(8), signed(8))
                m.d.comb += [multiplier.a.eq(self.x[k]), multiplier.b.eq(self.w[k]),
                             self.o[k].eq(multiplier.o)]
            return m
        if family == "ice40":
            m.submodules.block = ice40_block(
                Cat(self.x[0], self.x[1]), Cat(self.w[0], self.w[1]), Cat(self.o[0], self.o[1]))
            return m
        for k in range(2):
            x = Signal(8, name=f"x{k}", reset_less=True)
            w = Signal(signed(8), name=f"w{k}", reset_less=True)
            product = Signal(signed(16), name=f"product{k}", reset_less=True)
            m.d.sync += [x.eq(self.x[k]), w.eq(self.w[k]), product.eq(x * w)]
            m.d.comb += self.o[k].eq(product)
        return m


class PackedPair(wiring.Component):
    """Products of two unsigned activations with one small weight, from one multiplication.

    ``o[k] = x[k] * w`` for weights of -7 to 7, one pair per cycle, :attr:`latency` cycles later, as
    in `hw.packing`. On ECP5 the multiplication is one ``MULT18X18D``, whose operands Yosys would
    both make signed and then 19 bits wide.

    Members
    -------
    x : In(2 x unsigned(8)), w : In(signed(4)), o : Out(2 x signed(12))
    """

    latency = 3

    def __init__(self) -> None:
        super().__init__({
            "x": In(data.ArrayLayout(unsigned(8), 2)),
            "w": In(signed(4)),
            "o": Out(data.ArrayLayout(signed(12), 2)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Three registers: operands, product with two bits of the second one, products."""
        m = Module()
        step = PIXELS.step
        m.submodules.multiplier = multiplier = Multiplier(unsigned(18), signed(4))
        product = multiplier.o
        x1, w = Signal(2, reset_less=True), Signal(2, reset_less=True)
        lowest = Signal(2, reset_less=True)          # of the second product
        m.d.comb += [
            multiplier.a.eq(Cat(self.x[0], Const(0, step - 8), self.x[1])),
            multiplier.b.eq(self.w),
        ]
        m.d.sync += [
            x1.eq(self.x[1]),
            w.eq(self.w),
            lowest.eq(Cat(x1[0] & w[0], (x1[1] & w[0]) ^ (x1[0] & w[1]))),
        ]

        # The second product is (product >> step) - floor; its two lowest bits are known, so the
        # others are one less, equal or one more than those above.
        floor = Signal(signed(2))
        restored  = Signal(signed(4))
        m.submodules.adder = adder = ChoosingAdder(10, alternative=False)
        m.d.comb += [
            floor.eq(product[step:step + 2] - lowest),
            restored.eq(lowest + floor),
            adder.a.eq(product[step + 2:]),
            adder.b.eq(-1),
            adder.choose.eq(restored >= 4),
            adder.carry.eq(restored < 0),
        ]
        first, second = (Signal(signed(12), name=name, reset_less=True)
                         for name in ("first", "second"))
        m.d.sync += [first.eq(Cat(product[:step], floor)), second.eq(Cat(lowest, adder.o))]
        m.d.comb += [self.o[0].eq(first), self.o[1].eq(second)]
        return m


class Multiplier(wiring.Component):
    """``o = a * b``, one product per cycle, :attr:`latency` cycles later.

    It is one block with its own registers, so that nothing but wires is between them and the
    registers before and behind it: a ``MULT18X18D`` on ECP5, a ``MULT18X18`` or ``MULT9X9`` on
    Nexus and Gowin. Yosys would use neither them nor, where the operands' signs differ, all bits.

    Members
    -------
    a, b : In(signed or unsigned, of at most `OPERAND_BITS`)
    o : Out(signed), of as many bits as both
    """

    latency = 2

    def __init__(self, a: Shape, b: Shape) -> None:
        super().__init__({"a": In(a), "b": In(b), "o": Out(signed(a.width + b.width))})

    def elaborate(self, platform: Any) -> Elaboratable:
        """Registers, product, register; or the block that contains them."""
        m = Module()
        family = getattr(platform, "family", None)
        if family in ("nexus", "gowin"):
            instance = nexus_block if family == "nexus" else gowin_block
            m.submodules.block = instance(self.a, self.b, self.o)
            return m
        if family != "ecp5":
            a, b = (Signal.like(value, reset_less=True) for value in (self.a, self.b))
            product = Signal.like(self.o, reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b)]
            m.d.comb += self.o.eq(product)
            return m
        # The block's pins are single bits. An operand with a sign has its bits in the highest of
        # them, above zeros, which take no wires as copies of the sign would.
        pins = {f"i_C{k}": Const(0) for k in range(18)}
        below = 0                               # zeros below the product
        for name, value in (("A", self.a), ("B", self.b)):
            signed_value = value.shape().signed
            zeros = 18 - len(value) if signed_value else 0
            below += zeros
            pins |= {f"i_{name}{k}": value[k - zeros] if 0 <= k - zeros < len(value) else Const(0)
                     for k in range(18)}
            pins |= {f"i_SIGNED{name}": Const(signed_value), f"i_SOURCE{name}": Const(0)}
        pins |= {f"o_P{k + below}": self.o[k] for k in range(len(self.o))}
        registers = {f"p_REG_{name}_{pin}": f"{pin}0" for name in ("INPUTA", "INPUTB", "OUTPUT")
                     for pin in ("CLK", "CE", "RST")}
        m.submodules.block = Instance("MULT18X18D", i_CLK0=ClockSignal(), i_CE0=Const(1),
                                      i_RST0=Const(0), **pins, **registers)
        return m


class SumOfFour(wiring.Component):
    """The sum of four products of unsigned activations and signed weights.

    ``o = x[0] * w[0] + ... + x[3] * w[3]``, one sum per cycle, :attr:`latency` cycles later. On
    Nexus it is one ``MULTADDSUB9X9WIDE``.

    Members
    -------
    x : In(4 x unsigned(8)), w : In(4 x signed(8)), o : Out(signed(18))
    """

    latency = 3

    def __init__(self) -> None:
        super().__init__({
            "x": In(data.ArrayLayout(unsigned(8), 4)),
            "w": In(data.ArrayLayout(signed(8), 4)),
            "o": Out(signed(18)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Registers of operands, products and sum; or the block that contains them."""
        m = Module()
        if getattr(platform, "family", None) == "nexus":
            m.submodules.block = nexus_sum_block([self.x[k] for k in range(4)],
                                                 [self.w[k] for k in range(4)], self.o)
            return m
        x, w = Signal.like(self.x, reset_less=True), Signal.like(self.w, reset_less=True)
        products = [Signal(signed(16), name=f"product{k}", reset_less=True) for k in range(4)]
        total = Signal.like(self.o, reset_less=True)
        m.d.sync += [x.eq(self.x), w.eq(self.w), total.eq(sum(products)),
                     *(product.eq(x[k] * w[k]) for k, product in enumerate(products))]
        m.d.comb += self.o.eq(total)
        return m
