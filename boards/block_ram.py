"""Deep block RAM of the ECP5 in columns of whole blocks, so that little is multiplexed."""

from amaranth.hdl import Cat, Elaboratable, Module, Shape, Signal, Value
from amaranth.lib.memory import Memory

#: Shapes of a DP16KD, bits by words.
SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))


def is_deep(depth: int) -> bool:
    """Whether a memory of ``depth`` words is more than a row of blocks, whatever their shape."""
    return depth > SHAPES[0][1]


def in_columns(memory: Memory) -> bool:
    """Whether :func:`column_memory` stands for ``memory``.

    Yosys takes as few blocks as possible and multiplexes rows of them, which costs 774 tables for
    the two memories of a wide engine.
    """
    return (memory.attrs.get("ram_style") == "block" and is_deep(memory.depth)
            and memory.depth % SHAPES[0][1] == 0 and not any(memory.init)
            and len(memory.read_ports) == len(memory.write_ports) == 1)


def tiers(depth: int) -> list[tuple[int, int]]:
    """Shapes of blocks, the deepest first, whose depths make up ``depth``, a multiple of 512."""
    result = []
    for width, words in reversed(SHAPES):
        count, depth = divmod(depth, words)
        result += [(width, words)] * count
    return result


def parts(bits: int, depth: int) -> list[tuple[int, slice]]:
    """The blocks of a memory in columns: the first word and the bits that each one holds."""
    first, result = 0, []
    for width, words in tiers(depth):
        result += [(first, slice(low, min(low + width, bits))) for low in range(0, bits, width)]
        first += words
    return result


def blocks(bits: int, depth: int) -> int:
    """DP16KD of a memory of ``depth`` words."""
    return sum(-(-bits // width) for width, _ in tiers(-(-depth // SHAPES[0][1]) * SHAPES[0][1]))


class Column(Memory):
    """A memory as wide as one block, left to Yosys."""

    def elaborate(self, platform: object) -> Elaboratable:
        """As without a platform that has a say in it."""
        return super().elaborate(None)


def column_memory(memory: Memory) -> Module:
    """Tiers one after the other, each of memories side by side that are as wide as one block."""
    write, read = memory.write_ports[0], memory.read_ports[0]
    written, words = Value.cast(write.data), Value.cast(read.data)
    m = Module()
    first = 0
    chosen, answers = [], []
    for width, size in tiers(memory.depth):
        here = Signal(name=f"write{first}")
        fetched = Signal(len(words), name=f"read{first}")
        m.d.comb += here.eq(write.en & (write.addr >= first) & (write.addr < first + size))
        for low in range(0, Shape.cast(memory.shape).width, width):
            high = min(low + width, len(words))
            m.submodules[f"column{first}_{low}"] = part = Column(
                shape=high - low, depth=size, init=[], attrs=memory.attrs)
            store = part.write_port(domain=write.domain)
            fetch = part.read_port(domain=read.domain)
            m.d.comb += [
                store.en.eq(here), store.addr.eq(write.addr), store.data.eq(written[low:high]),
                fetch.en.eq(read.en), fetch.addr.eq(read.addr), fetched[low:high].eq(fetch.data),
            ]
        chosen.append(read.addr >= first)
        answers.append(fetched)
        first += size
    if len(answers) == 1:
        m.d.comb += words.eq(answers[0])
        return m
    beyond = Signal(len(chosen))            # tiers that begin at the address or before it
    with m.If(read.en):
        m.d[read.domain] += beyond.eq(Cat(chosen))
    m.d.comb += words.eq(answers[0])
    for number, answer in enumerate(answers):
        with m.If(beyond[number]):
            m.d.comb += words.eq(answer)
    return m
