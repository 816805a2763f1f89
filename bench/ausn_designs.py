"""The designs that bench/ausn.py compares: tiles of AUSN, Booth and ``*``, and requantizers."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring

from hw.ausn.activation import AusnRequantizer
from hw.ausn.held import HeldTile
from hw.ausn.plan import Plan, ausn_plan, booth_plan
from hw.ausn.still import StillTile
from hw.ausn.tile import Accumulator, Tile, tile_members
from hw.requantizer import Requantizer
from ref.ausn import AusnCode

#: Pixels and channels of all tiles: the smallest arrays of the engine have as many.
SHAPE = (4, 8)
LANES = SHAPE[0] * SHAPE[1]
#: The splits of AUSN codes that the lane for five bits takes at run time, and all that there are.
ALL_SPLITS = tuple(AusnCode(e, s) for e in (1, 2, 3) for s in range(4) if 2 <= e + s <= 4)
SPLITS = tuple(AusnCode(e, s) for e, s in ((2, 2), (2, 1), (2, 0), (1, 2), (1, 1), (1, 0)))


class MultiplierTile(wiring.Component):
    """What `hw.ausn.tile.Tile` does, by the ``*`` of synthesis and linear weights.

    The accumulator is the lanes' own. Members as there, one tap; ``sums`` lack nothing. With
    ``still`` lanes hold their weights, and a pixel's registers change for activations other than 0
    only, as in `hw.ausn.held.HeldTile`. With ``direct`` the tile's inputs are multiplied as they
    come, without registers.
    """

    def __init__(self, bits: int, pixels: int, channels: int, *, still: bool = False,
                 direct: bool = False) -> None:
        self.bits = bits
        self.still = still
        self.direct = direct
        self.pixels = pixels
        self.channels = channels
        super().__init__(tile_members(bits, pixels, channels))

    def product(self, x: Value, code: Value) -> Value:
        """The product of an activation and a weight code."""
        return x * code.as_signed()

    def elaborate(self, platform: object) -> Elaboratable:
        """Operands, products and sums in registers."""
        m = Module()
        awake = [self.valid & (self.first | self.x[0][p].any()) if self.still else self.valid
                 for p in range(self.pixels)]
        stages = [Cat(awake, self.valid & self.first, self.valid & self.last)]
        for _ in range(1 if self.direct else 2):
            stages.append(Signal(self.pixels + 2, name="control"))
            m.d.sync += stages[-1].eq(stages[-2])
        first, last = stages[-1][self.pixels:]
        m.d.sync += self.done.eq(last)
        x = [Signal(8, name=f"x{p}", reset_less=True) for p in range(self.pixels)]
        code = [[Signal(self.bits, name=f"code{p}_{c}", reset_less=True)
                 for c in range(self.channels)] for p in range(self.pixels)]
        for p in range(self.pixels):
            with m.If(awake[p] | (not self.still)):
                m.d.sync += [x[p].eq(self.x[0][p]),
                             *(code[p][c].eq(self.code[0][c]) for c in range(self.channels))]
        for p in range(self.pixels):
            for c in range(self.channels):
                value = (self.product(self.x[0][p], self.code[0][c]) if self.direct
                         else self.product(x[p], code[p][c]))
                product = Signal(value.shape(), name=f"product{p}_{c}", reset_less=True)
                with m.If(stages[-2][p] | (not self.still)):
                    m.d.sync += product.eq(value)
                accumulator = Accumulator(20, len(product), inverts=False)
                m.submodules[f"accumulator{p}_{c}"] = accumulator
                m.d.comb += [accumulator.addend.eq(product),
                             accumulator.accumulate.eq(stages[-1][p]),
                             accumulator.first.eq(first), accumulator.last.eq(last),
                             self.sums[p][c].eq(accumulator.total)]
        return m


class PlainTile(MultiplierTile):
    """AUSN of five bits written as its definition reads: shifted operand, gated smaller ones."""

    def product(self, x: Value, code: Value) -> Value:
        """The product in 14 bits."""
        gates, field, sign = code[:2], code[2:4], code[4]
        main = Mux(field == 0, 0, x << 2)
        shift = Mux(field == 0, 0, (field - 1)[:2])
        size = ((main + Mux(gates[1], x << 1, 0) + Mux(gates[0], x, 0)) << shift)[:13]
        return Mux(sign, -size, size)


def lane(plan: Plan, taps: int = 1) -> Tile:
    """A tile of lanes with that plan."""
    return Tile(plan, *SHAPE, taps)


def by_hand(kind: str, bits: int, family: str) -> Plan:
    """The plan of the lanes "AUSN" or "Booth" for weights of so many bits."""
    return ausn_plan((AusnCode(2, bits - 3),), family) if kind == "AUSN" else booth_plan(bits)


def lanes(kind: str, bits: int) -> tuple[int, Callable[[str], Elaboratable]]:
    """The entry of `DESIGNS` for the plan of `by_hand`."""
    return LANES, lambda family: lane(by_hand(kind, bits, family))


def still(family: str) -> HeldTile | StillTile:
    """The tile of AUSN lanes of five bits that stand still for zeros."""
    plan = by_hand("AUSN", 5, family)
    return HeldTile(plan, *SHAPE) if plan.chooses else StillTile(plan, *SHAPE)


#: Each design: its products (or results) per cycle and how to make it for an FPGA family.
DESIGNS: dict[str, tuple[int, Callable[[str], Elaboratable]]] = {
    **{f"AUSN {bits}": lanes("AUSN", bits) for bits in (8, 7, 6, 5, 4)},
    **{f"Booth {bits}": lanes("Booth", bits) for bits in (8, 7, 6, 5, 4)},
    **{f"linear {bits}": (LANES, lambda family, bits=bits: MultiplierTile(bits, *SHAPE))
       for bits in (8, 7, 6, 5, 4)},
    "AUSN 5 still":    (LANES, still),
    "linear 8 still":  (LANES, lambda family: MultiplierTile(8, *SHAPE, still=True)),
    "linear 8 direct": (LANES, lambda family: MultiplierTile(8, *SHAPE, direct=True)),
    "AUSN 5, 4 taps":   (4 * LANES, lambda family: lane(by_hand("AUSN", 5, family), 4)),
    "AUSN 3-5, six splits": (LANES, lambda family: lane(ausn_plan(SPLITS, family))),
    "AUSN 3-5, all splits": (LANES, lambda family: lane(ausn_plan(ALL_SPLITS, family))),
    "AUSN 5, as it reads": (LANES, lambda family: PlainTile(5, *SHAPE)),
    "Booth 6, 4 taps":  (4 * LANES, lambda family: lane(booth_plan(6), 4)),
    "requantizer, AUSN 4 bits": (1, lambda family: AusnRequantizer(AusnCode(2, 2), 20,
                                                                   (4, 6, 8, 10))),
    "requantizer, linear": (1, lambda family: Requantizer(20, 4, clips=False, leaky=False)),
}
