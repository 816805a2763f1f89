"""Multipliers of the array: the only module that names a multiplier primitive."""

from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
    Value,
    signed,
    unsigned,
)
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .adder import ChoosingAdder
from .packing import Packing

#: Two pixels and their weight.
PIXELS = Packing(products=2, activation_bits=8, weight_bits=4, step=10)


class MultiplierPair(wiring.Component):
    """Two independent products of an unsigned activation and a signed weight.

    ``o[k] = x[k] * w[k]``, one pair per cycle, :attr:`latency` cycles later. Equal to Python's
    ``*`` over all operands. On iCE40 both products share one ``SB_MAC16`` in its dual 8x8 mode;
    elsewhere synthesis finds the multiplier blocks by itself.

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
        if getattr(platform, "family", None) == "ice40":
            m.submodules.block = Instance(
                "SB_MAC16",
                p_MODE_8x8=Const(1, 1), p_A_SIGNED=Const(0, 1), p_B_SIGNED=Const(1, 1),
                p_A_REG=Const(1, 1), p_B_REG=Const(1, 1),
                p_TOP_8x8_MULT_REG=Const(1, 1), p_BOT_8x8_MULT_REG=Const(1, 1),
                p_TOPOUTPUT_SELECT=Const(2, 2), p_BOTOUTPUT_SELECT=Const(2, 2),
                i_CLK=ClockSignal(), i_CE=Const(1, 1),
                i_A=Cat(self.x[0], self.x[1]), i_B=Cat(self.w[0], self.w[1]),
                i_C=Const(0, 16), i_D=Const(0, 16),
                i_AHOLD=Const(0), i_BHOLD=Const(0), i_CHOLD=Const(0), i_DHOLD=Const(0),
                i_IRSTTOP=Const(0), i_IRSTBOT=Const(0), i_ORSTTOP=Const(0), i_ORSTBOT=Const(0),
                i_OLOADTOP=Const(0), i_OLOADBOT=Const(0), i_ADDSUBTOP=Const(0),
                i_ADDSUBBOT=Const(0), i_OHOLDTOP=Const(0), i_OHOLDBOT=Const(0),
                i_CI=Const(0), i_ACCUMCI=Const(0), i_SIGNEXTIN=Const(0),
                o_O=Cat(self.o[0], self.o[1]),
            )
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
        x = Signal.like(self.x, reset_less=True)
        w = Signal(signed(4), reset_less=True)
        m.d.sync += [x.eq(self.x), w.eq(self.w)]

        step = PIXELS.step
        packed = Cat(x[0], Const(0, step - 8), x[1])
        result = Signal(signed(step + 12))
        if getattr(platform, "family", None) == "ecp5":
            m.submodules.block = multiplier_block(packed, w, result)
        else:
            m.d.comb += result.eq(packed * w)
        product = Signal.like(result, reset_less=True)
        lowest = Signal(2, reset_less=True)          # of the second product
        m.d.sync += [
            product.eq(result),
            lowest.eq(Cat(x[1][0] & w[0], (x[1][1] & w[0]) ^ (x[1][0] & w[1]))),
        ]

        # The second product is (product >> step) - floor; its two lowest bits are known, so the
        # others are one less, equal or one more than those above.
        floor = Signal(signed(2))
        restored  = Signal(signed(4))
        m.submodules.adder = adder = ChoosingAdder(10)
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


def multiplier_block(a: Value, b: Value, product: Signal) -> Instance:
    """A ``MULT18X18D`` of the unsigned 18-bit ``a`` and the signed ``b``; no register inside."""
    # The block's pins are single bits.
    pins = {f"i_A{k}": a[k] for k in range(18)}
    pins |= {f"i_B{k}": b[min(k, len(b) - 1)] for k in range(18)}
    pins |= {f"i_C{k}": Const(0) for k in range(18)}
    pins |= {f"o_P{k}": product[k] for k in range(len(product))}
    return Instance("MULT18X18D", i_SIGNEDA=Const(0), i_SIGNEDB=Const(1), i_SOURCEA=Const(0),
                    i_SOURCEB=Const(0), **pins)
