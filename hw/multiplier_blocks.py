"""The multiplier blocks of each family of devices, as instances."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Signal, Value


def extended(value: Value, width: int) -> Value:
    """``value`` in ``width`` bits, by its sign if it has one."""
    sign = value[-1] if value.shape().signed else Const(0)
    return Cat(value, sign.replicate(width - len(value)))


def nexus_block(a: Value, b: Value, product: Signal) -> Instance:
    """``MULT9X9`` or ``MULT18X18``, registers of the operands and of the product included."""
    size = block_size(a, b)
    registers = {f"p_REG{name}": "REGISTER" for name in ("INPUTA", "INPUTB", "OUTPUT")}
    return Instance(
        f"MULT{size}X{size}", **registers, i_CLK=ClockSignal(),
        i_A=extended(a, size), i_SIGNEDA=Const(a.shape().signed), i_CEA=Const(1), i_RSTA=Const(0),
        i_B=extended(b, size), i_SIGNEDB=Const(b.shape().signed), i_CEB=Const(1), i_RSTB=Const(0),
        i_CEOUT=Const(1), i_RSTOUT=Const(0), o_Z=padded(product, 2 * size))


def gowin_block(a: Value, b: Value, product: Signal) -> Instance:
    """``MULT9X9`` or ``MULT18X18``, registers of the operands and of the product included."""
    size = block_size(a, b)
    registers = {f"p_{name}": Const(1, 1) for name in ("AREG", "BREG", "OUT_REG")}
    return Instance(
        f"MULT{size}X{size}", **registers, i_CLK=ClockSignal(), i_CE=Const(1), i_RESET=Const(0),
        i_A=extended(a, size), i_ASIGN=Const(a.shape().signed), i_ASEL=Const(0),
        i_B=extended(b, size), i_BSIGN=Const(b.shape().signed), i_BSEL=Const(0),
        i_SIA=Const(0, size), i_SIB=Const(0, size), o_DOUT=padded(product, 2 * size))


def nexus_sum_block(x: list[Value], w: list[Value], total: Signal) -> Instance:
    """``MULTADDSUB9X9WIDE``: four signed 9x9 products and their sum, with three registers."""
    enables = ("CEA0A1", "CEA2A3", "CEB0B1", "CEB2B3", "CEC", "CECTRL", "CEPIPE", "CEOUT")
    resets = ("RSTA0A1", "RSTA2A3", "RSTB0B1", "RSTB2B3", "RSTC", "RSTCTRL", "RSTPIPE", "RSTOUT")
    constant = ("REGINPUTC", "REGADDSUB", "REGLOADC", "REGLOADC2")      # of what never changes
    operands = {f"i_{name}{k}": extended(value, 9) for name, values in (("A", x), ("B", w))
                for k, value in enumerate(values)}
    # The sum starts from C, which is 0, instead of the sum before it.
    return Instance(
        "MULTADDSUB9X9WIDE", **operands, **{f"i_{name}": Const(1) for name in enables},
        **{f"i_{name}": Const(0) for name in resets},
        **{f"p_{name}": "BYPASS" for name in constant}, i_CLK=ClockSignal(),
        i_SIGNED=Const(1), i_ADDSUB=Const(0, 4), i_LOADC=Const(1), i_C=Const(0, 54),
        o_Z=padded(total, 54))


def ice40_block(x: Value, w: Value, o: Value, *, sums: bool = False, clear: Value | None = None,
                hold: Value | None = None) -> Instance:
    """``SB_MAC16`` as two 8x8 multipliers, registers of operands and products included.

    ``x`` holds two unsigned operands, ``w`` two signed ones, ``o`` both products of 16 bits; or,
    with ``sums``, the sums of each, which stay with ``hold`` and become 0 with ``clear``.
    """
    low = Const(0)
    clear, hold = (low if signal is None else signal for signal in (clear, hold))
    # The sum is fed back (UPPERINPUT 0) and added to the product (LOWERINPUT 1); loading takes C
    # and D, which are 0.
    adders = {"ADDSUB_LOWERINPUT": Const(1, 2), "ADDSUB_UPPERINPUT": Const(0, 1),
              "ADDSUB_CARRYSELECT": Const(0, 2)} if sums else {}
    halves = {"OUTPUT_SELECT": Const(1 if sums else 2, 2), **adders}
    return Instance(
        "SB_MAC16",
        p_MODE_8x8=Const(1, 1), p_A_SIGNED=Const(0, 1), p_B_SIGNED=Const(1, 1),
        p_A_REG=Const(1, 1), p_B_REG=Const(1, 1),
        p_TOP_8x8_MULT_REG=Const(1, 1), p_BOT_8x8_MULT_REG=Const(1, 1),
        **{f"p_{half}{name}": value for name, value in halves.items() for half in ("TOP", "BOT")},
        i_CLK=ClockSignal(), i_CE=Const(1, 1), i_A=x, i_B=w, i_C=Const(0, 16), i_D=Const(0, 16),
        i_AHOLD=low, i_BHOLD=low, i_CHOLD=low, i_DHOLD=low,
        i_IRSTTOP=low, i_IRSTBOT=low, i_ORSTTOP=low, i_ORSTBOT=low,
        i_OLOADTOP=clear, i_OLOADBOT=clear, i_ADDSUBTOP=low, i_ADDSUBBOT=low,
        i_OHOLDTOP=hold, i_OHOLDBOT=hold, i_CI=low, i_ACCUMCI=low, i_SIGNEXTIN=low, o_O=o)


def block_size(a: Value, b: Value) -> int:
    """Bits of an operand of the smaller one of two blocks that takes both."""
    return 9 if max(len(a), len(b)) <= 9 else 18


def padded(result: Signal, width: int) -> Value:
    """``result`` as the lowest bits of an output of ``width`` bits."""
    return Cat(result, Signal(width - len(result), name="unused"))
