"""One product of a lane without multiplier: an activation, or a byte, times a coded weight."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ref.ausn import AusnCode

#: The code of the weights, without their signs: 0, 1, 2, 3, 4, 6, 8, 12.
WEIGHTS = AusnCode(2, 1)
#: The code of the activations: 0 .. 8, 10, 12, 14, 16, 20, 24, 28.
ACTIVATIONS = AusnCode(2, 2)
#: Bits of a level of an activation.
LEVEL_BITS = ACTIVATIONS.largest.bit_length()
#: Bits of an operand, which may be a byte of the network's input.
OPERAND_BITS = 8
#: Bits of a product, its sign included.
PRODUCT_BITS = (((1 << OPERAND_BITS) - 1) * WEIGHTS.largest).bit_length() + 1
#: What is added up for each magnitude: one of 0, 2 and 8 times the activation, and of 0, 1 and 4.
TERMS = {0: (0, 0), 1: (0, 1), 2: (2, 0), 3: (2, 1), 4: (0, 4), 6: (2, 4), 8: (8, 0), 12: (8, 4)}

#: What a lane does for a weight: which multiples it adds, one gate each, and whether the sum is
#: inverted.
CHOICE = data.StructLayout({"one": 1, "two": 1, "four": 1, "eight": 1, "invert": 1})


def lacks(weight: int) -> int:
    """By how much the product with a weight is too small: ``~v`` is ``-v - 1``."""
    return int(weight < 0)


def choice(code: Value) -> Value:
    """The lanes' `CHOICE` for a weight's code (`AusnCode.encode`, 4 bits), within the cycle."""
    magnitude = code[:WEIGHTS.bits]
    gates = [magnitude.matches(*(number for number, level in enumerate(WEIGHTS.levels.tolist())
                                 if factor in TERMS[level])) for factor in (1, 2, 4, 8)]
    return Cat(*gates, code[WEIGHTS.bits])


class CodeProduct(wiring.Component):
    """``o = x * weight - lacks(weight)``, one product per cycle, :attr:`latency` cycles later.

    Two terms are chosen, a lookup table a bit, and added; the carry cells' third input inverts the
    sum. Both have a register, so that a product takes as long as in a multiplier block.

    Members
    -------
    x : In(unsigned(8)); weight : In(CHOICE)
    o : Out(signed(PRODUCT_BITS))
    """

    latency = 2

    def __init__(self) -> None:
        super().__init__({"x": In(OPERAND_BITS), "weight": In(CHOICE),
                          "o": Out(signed(PRODUCT_BITS))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Terms, registers, their sum, a register."""
        m = Module()
        chosen = self.weight
        low  = Signal(OPERAND_BITS + 2, reset_less=True)
        high = Signal(OPERAND_BITS + 3, reset_less=True)
        invert = Signal(reset_less=True)
        m.d.sync += [
            low.eq(Mux(chosen.one, self.x, 0) | Cat(Const(0, 2), Mux(chosen.four, self.x, 0))),
            high.eq(Cat(Const(0, 1), Mux(chosen.two, self.x, 0))
                    | Cat(Const(0, 3), Mux(chosen.eight, self.x, 0))),
            invert.eq(chosen.invert),
        ]
        total = Signal(PRODUCT_BITS)
        product = Signal.like(self.o, reset_less=True)
        m.d.comb += [total.eq(low + high), self.o.eq(product)]
        m.d.sync += product.eq(Mux(invert, ~total, total))
        return m
