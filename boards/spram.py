"""Large single-port memories of the iCE40 UltraPlus: a Memory becomes SB_SPRAM256KA cells."""

from amaranth.hdl import Array, ClockSignal, Const, Instance, Module, Shape, Signal, Value
from amaranth.lib.memory import Memory

SPRAM_DEPTH = 16384
SPRAM_WIDTH = 16


def spram_memory(memory: Memory) -> Module:
    """Cells that stand for ``memory``: 16 bits each side by side, 16384 words each in banks.

    The memory has one clocked read port and one write port that the design never enables in the
    same cycle; a read in a cycle with a write is lost. What was read stays at the port
    until the next read *or write*: after a write the cell's output is undefined, so the design
    takes the word in the cycle in which it arrives. Nothing is there after power-up.
    Raises `ValueError` for ports, widths or initial contents that these cells do not have.
    """
    _check(memory)
    write, read = memory.write_ports[0], memory.read_ports[0]
    written, words = Value.cast(write.data), Value.cast(read.data)
    banks = -(-memory.depth // SPRAM_DEPTH)
    m = Module()
    address = Signal(range(banks * SPRAM_DEPTH))
    m.d.comb += address.eq(write.addr)
    with m.If(~write.en):
        m.d.comb += address.eq(read.addr)
    bank = address[14:]
    outputs = []
    for index in range(banks):
        chosen = (bank == index) if banks > 1 else Const(1)
        output = Signal(len(words), name=f"bank{index}")
        for low in range(0, len(words), SPRAM_WIDTH):
            m.submodules[f"spram{index}_{low}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(write.domain), i_ADDRESS=address[:14],
                i_DATAIN=written[low:low + SPRAM_WIDTH], i_MASKWREN=Const(0b1111, 4),
                i_WREN=write.en, i_CHIPSELECT=(write.en | read.en) & chosen,
                i_STANDBY=Const(0), i_SLEEP=Const(0), i_POWEROFF=Const(1),      # active low
                o_DATAOUT=output[low:low + SPRAM_WIDTH])
        outputs.append(output)
    if banks > 1:
        answering = Signal(range(banks))
        with m.If(read.en):
            m.d[read.domain] += answering.eq(bank)
        m.d.comb += words.eq(Array(outputs)[answering])
    else:
        m.d.comb += words.eq(outputs[0])
    return m


def _check(memory: Memory) -> None:
    """Refuse, in a sentence, a memory that SB_SPRAM256KA cells cannot stand for."""
    width = Shape.cast(memory.shape).width
    name = f"the {width} x {memory.depth} memory with ram_style \"huge\""
    if len(memory.read_ports) != 1 or len(memory.write_ports) != 1:
        raise ValueError(f"{name} needs exactly one read and one write port for SPRAM")
    write, read = memory.write_ports[0], memory.read_ports[0]
    if read.domain != write.domain:
        raise ValueError(f"{name} is read in domain \"{read.domain}\" and written in "
                         f"\"{write.domain}\", but an SPRAM has one clock")
    if len(write.en) != 1 or read.transparent_for:
        raise ValueError(f"{name} has a write granularity or a transparent read port, "
                         "which an SPRAM does not offer")
    if width % SPRAM_WIDTH:
        raise ValueError(f"{name} is not a multiple of {SPRAM_WIDTH} bits wide")
    if any(Const.cast(Const(word, memory.shape)).value for word in memory.init):
        raise ValueError(f"{name} has initial contents, but an SPRAM is empty after power-up")
