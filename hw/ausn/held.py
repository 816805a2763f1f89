"""Pixels by channels of multiply-accumulates that stand still for zeros, choices held in lanes.

This is `hw.ausn.still` for plans whose adders choose (`Plan.chooses`), whose terms are never zero.
A lane holds what it does for its weight in five registers, its product and its accumulator: where
the pixel's activation is 0 nothing in it changes, not even its tables' inputs. An addition is only
written back when the next product comes, so that the adder's operands change together.
"""

from amaranth.hdl import Cat, Const, Elaboratable, EnableInserter, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..adder import ChoosingAdder
from .adder import InvertingAdder
from .decoder import Decoder, choice_layout
from .multiples import Multiples, multiple_of, multiples_layout
from .plan import Plan
from .selector import chosen_multiple
from .tile import tile_members


class HeldLane(wiring.Component):
    """``weight * x = (~o if invert else o) + carry``, within the cycle.

    A term inverted below its lowest bit as well lacks 1, and so does an inverted sum: together
    they lack 1 or nothing, the ``carry``.

    Members
    -------
    multiples : In(multiples_layout(plan)), choice : In(choice_layout(plan))
    o : Out(signed(plan.product_bits)), invert, carry : Out(1)
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__({
            "multiples": In(multiples_layout(plan)), "choice": In(choice_layout(plan)),
            "o": Out(signed(plan.product_bits)), "invert": Out(1), "carry": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """One term from tables, and an adder that chooses the other."""
        m = Module()
        term, constant = self.plan.terms
        mine, other = self.choice.terms.term0, self.choice.terms.term1
        chosen = chosen_multiple(m, term, self.multiples, mine.index, mine.invert, platform)
        whole = Cat(mine.invert.replicate(term.low), chosen, mine.invert)
        zero, one = (Cat(Const(0, 1) if bit is None else bit for bit in
                         multiple_of(self.multiples, factor)[constant.low:])
                     for factor in constant.multiples)
        m.submodules.adder = adder = ChoosingAdder(self.plan.product_bits - constant.low)
        m.d.comb += [
            adder.a.eq(whole[constant.low:].as_signed()), adder.choose.eq(other.index),
            adder.b.eq(one), adder.c.eq(zero), self.o.eq(Cat(whole[:constant.low], adder.o)),
            self.invert.eq(self.choice.invert), self.carry.eq(mine.invert ^ self.choice.invert)]
        return m


class HeldTile(wiring.Component):
    """Accumulate ``sum of weight[c] * x[p]`` for each pixel p and channel c; exact.

    Members are those of a `Tile` of one tap; ``first`` need not be told. :attr:`latency` cycles
    after its operands the sums hold a product. Raises `ValueError` for plans with a term that is
    zero for some code, or whose adders do not choose.

    Members
    -------
    x : In(1 x pixels x 8), code : In(1 x channels x plan.code_bits)
    valid : In(1), the operands are to be added; first, last : In(1), of a sum
    sums : Out(pixels x channels x signed(accumulator_bits))
    done : Out(1), ``sums`` hold a whole sum, in this cycle only
    """

    latency = 2

    def __init__(self, plan: Plan, pixels: int, channels: int, accumulator_bits: int = 20) -> None:
        if len(plan.terms) != 2 or not plan.chooses or any(term.zero for term in plan.terms):
            raise ValueError("only plans of two terms that are never zero, one of them chosen by "
                             "the adder, hold their choices in lanes")
        self.plan = plan
        self.pixels = pixels
        self.channels = channels
        self.accumulator_bits = accumulator_bits
        super().__init__(tile_members(plan.code_bits, pixels, channels,
                                      accumulator_bits=accumulator_bits))

    def elaborate(self, platform: object) -> Elaboratable:
        """What pixels share, what channels share, and the lanes with their registers."""
        m = Module()
        plan = self.plan
        ends = self.valid & self.last
        lane_ends = Signal()                    # the same of the product that the lanes make
        m.d.sync += [lane_ends.eq(ends), self.done.eq(lane_ends)]
        decoders = [Decoder(plan) for _ in range(self.channels)]
        for c, decoder in enumerate(decoders):
            m.submodules[f"decoder{c}"] = decoder
            m.d.comb += decoder.code.eq(self.code[0][c])
        for p in range(self.pixels):
            # The addition that ends a sum is made even of 0.
            awake = Signal(name=f"awake{p}")
            lanes_awake = Signal(name=f"lanes_awake{p}")
            fresh = Signal(name=f"fresh{p}", init=1)    # the next product is a sum's first
            m.d.comb += awake.eq(ends | self.valid & self.x[0][p].any())
            m.d.sync += lanes_awake.eq(awake)
            with m.If(lanes_awake):
                m.d.sync += fresh.eq(lane_ends)
            m.submodules[f"multiples{p}"] = maker = EnableInserter(awake)(Multiples(plan))
            m.d.comb += maker.x.eq(self.x[0][p])
            for c, decoder in enumerate(decoders):
                choice = Signal(choice_layout(plan), name=f"choice{p}_{c}", reset_less=True)
                m.submodules[f"lane{p}_{c}"] = lane = HeldLane(plan)
                m.submodules[f"adder{p}_{c}"] = adder = InvertingAdder(self.accumulator_bits)
                before = Signal(signed(self.accumulator_bits), name=f"before{p}_{c}",
                                reset_less=True)
                product = Signal.like(lane.o, name=f"product{p}_{c}", reset_less=True)
                invert, carry = Signal(reset_less=True), Signal(reset_less=True)
                m.d.comb += [
                    lane.multiples.eq(maker.o), lane.choice.eq(choice),
                    adder.a.eq(before), adder.b.eq(product), adder.invert.eq(invert),
                    adder.carry.eq(carry), self.sums[p][c].eq(adder.o)]
                with m.If(awake):
                    m.d.sync += choice.eq(decoder.o)
                with m.If(lanes_awake):
                    m.d.sync += [product.eq(lane.o), invert.eq(lane.invert), carry.eq(lane.carry)]
                with m.If(lanes_awake & fresh):         # outermost: the register's own reset
                    m.d.sync += before.eq(0)
                with m.Elif(lanes_awake):
                    m.d.sync += before.eq(adder.o)
        return m
