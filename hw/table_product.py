"""A lane's multiplier made of lookup tables, for where a device has no blocks left."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .adder import ChoosingAdder


class TableProduct(wiring.Component):
    """``o = x * w`` of an unsigned activation and a signed weight, :attr:`latency` cycles later.

    The activation times pairs of the weight's bits, summed up in a tree: nothing that synthesis
    would give to a multiplier block. ``weight_bits`` are 5 to 8; for fewer `hw.term_product` takes
    less.

    Members
    -------
    x : In(unsigned(8)), w : In(signed(weight_bits)), o : Out(signed(8 + weight_bits))
    """

    latency = 2

    def __init__(self, weight_bits: int) -> None:
        super().__init__({
            "x": In(8),
            "w": In(signed(weight_bits)),
            "o": Out(signed(8 + weight_bits)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Registers of the operands, both halves' products, their sum, a register."""
        m = Module()
        x, w = Signal.like(self.x, reset_less=True), Signal.like(self.w, reset_less=True)
        m.d.sync += [x.eq(self.x), w.eq(self.w)]
        low, high = halves(m, x, w)
        product = Signal.like(self.o, reset_less=True)
        m.d.sync += product.eq(joined(low, high, len(w) // 2))
        m.d.comb += self.o.eq(product)
        return m


def halves(m: Module, x: Value, w: Value) -> tuple[Value, Value]:
    """``x`` times the lower half of the bits of ``w``, and times the upper ones."""
    half = len(w) // 2
    upper = w[half:].as_signed() if w.shape().signed else w[half:]
    return partial(m, x, w[:half]), partial(m, x, upper)


def joined(low: Value, high: Value, half: int) -> Value:
    """``low + high * 2^half``."""
    return Cat(low[:half], (low >> half) + high)


def partial(m: Module, x: Value, w: Value) -> Value:
    """``x * w``, within the cycle; ``w`` is unsigned, or signed with two bits or more."""
    if len(w) == 1:
        return Mux(w, x, 0)
    if len(w) == 2:                              # the choice of the upper bit is the adder's
        minus = w.shape().signed
        lower = Mux(w[0], x, 0)
        adder = ChoosingAdder(len(x) + 1, alternative=False, inverts=minus)
        m.submodules += adder
        m.d.comb += [adder.a.eq(lower >> 1), adder.b.eq(x), adder.choose.eq(w[1]),
                     adder.carry.eq(w[1] & minus)]
        total = Cat(lower[0], adder.o)
    else:
        total = joined(*halves(m, x, w), len(w) // 2)[:len(x) + len(w)]
    return total.as_signed() if w.shape().signed else total
