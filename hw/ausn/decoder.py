"""What lanes do for a weight code, found once for all lanes that multiply by this weight."""

from amaranth.hdl import Cat, Const, Elaboratable, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .plan import Plan


def choice_layout(plan: Plan) -> data.StructLayout:
    """Which multiple each term takes, whether it is inverted or zero; whether the sum is inverted.

    Where a term is `Term.gated`, its index has a bit for each multiple, and none is set for zero.
    """
    return data.StructLayout({
        "terms": data.StructLayout({
            f"term{k}": data.StructLayout({
                "index": term.index_bits, "invert": 1, "clear": 1})
            for k, term in enumerate(plan.terms)}),
        "invert": 1})


class Decoder(wiring.Component):
    """The plan's choice for a code, within the cycle.

    Members
    -------
    code : In(plan.code_bits), o : Out(choice_layout(plan))
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__({"code": In(plan.code_bits), "o": Out(choice_layout(plan))})

    def elaborate(self, platform: object) -> Elaboratable:
        """A table for each term over the bits that decide it, and one for the inversion."""
        m = Module()
        plan = self.plan
        padded = Cat(Const(0, 1), self.code, self.code[-1])
        for k, (first, end) in enumerate(plan.windows):
            chosen = self.o.terms[f"term{k}"]
            with m.Switch(padded[first + 1:end + 1]):
                for value in range(1 << end - first):
                    code = _code_with(plan, first, end, value)
                    if code is None:
                        continue
                    digit, term = plan.choices[code].digits[k], plan.terms[k]
                    with m.Case(value):
                        m.d.comb += [chosen.index.eq(term.index(digit)),
                                     chosen.invert.eq(digit.inverted),
                                     chosen.clear.eq(digit.number is None and not term.gated)]
        inverted = [code for code, choice in enumerate(plan.choices) if choice.inverted]
        m.d.comb += self.o.invert.eq(self.code.matches(*inverted) if inverted else 0)
        return m


def _code_with(plan: Plan, first: int, end: int, value: int) -> int | None:
    """Any code whose bits ``first`` to ``end``, the sign repeated above, are ``value``; or None."""
    for code in range(1 << plan.code_bits):
        wide = (code | (code >> plan.code_bits - 1) << plan.code_bits) << 1
        if wide >> first + 1 & (1 << end - first) - 1 == value:
            return code
    return None
