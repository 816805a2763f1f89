"""The board's end of the host link: request frames in, engine ports driven, responses out."""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .accelerator import load_layout
from .config import EngineConfig
from .frames import REQUEST, RESPONSE, RESPONSE_HEAD, Command, Status, info_payload
from .selector import Selector

_HEADER_BYTES = 5                        # command, address, word count
_CRC_BYTES = 2
_INFO_BYTES = 8
_CYCLES_BYTES = 4


class Link(wiring.Component):
    """Serves the frames of docs/host-link.md, one at a time, on the ports of an engine.

    A request with an error is discarded until the line has been silent for ``timeout`` clock cycles
    (at most twice that: it is rounded up to a power of two), and only then answered, so that the
    rest of a damaged frame is never taken for another one. Payload is written word by word as it
    arrives; the header, which says where, has been verified before. RUN and READ_ACTIVATIONS begin
    after their CRC was verified. While a request is carried out no byte is accepted.

    Between bytes of a payload the link needs at most ``load``'s stall plus two cycles.

    Members: ``i``, ``o`` bytes from and to the host; ``load`` words to write (``space`` 0 is
    activation memory, 1 the tape); ``read`` addresses of activation words and ``data`` the words,
    in order; ``start`` is high for one cycle and ``busy`` from the next cycle until the inference
    ended, when ``error`` and ``cycles`` hold its outcome.
    """

    def __init__(self, config: EngineConfig, *, timeout: int) -> None:
        if timeout < 1:
            raise ValueError(f"Link timeout must be at least one clock cycle, not {timeout!r}")
        self.config = config
        self.timeout = timeout
        word = 8 * config.word_bytes
        super().__init__({
            "i":      In(stream.Signature(8)),
            "o":      Out(stream.Signature(8)),
            "load":   Out(stream.Signature(load_layout(config.word_bytes))),
            "read":   Out(stream.Signature(16)),
            "data":   In(stream.Signature(word)),
            "start":  Out(1),
            "busy":   In(1),
            "error":  In(1),
            "cycles": In(32),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Build the circuit."""
        m = Module()
        word_bytes = self.config.word_bytes
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()

        header  = Signal(StructLayout({"command": 8, "address": 16, "words": 16}))
        command = header.command
        left    = Signal(16)             # bytes of payload still to come or to be sent
        index   = Signal(range(_HEADER_BYTES + _CRC_BYTES))   # byte of a part of fixed length
        status  = Signal(Status)
        word    = Signal(8 * word_bytes, reset_less=True)            # received
        word_done = left[:exact_log2(word_bytes)] == 0
        silence = Signal(ceil_log2(self.timeout) + 1)
        silent  = silence[-1]
        received = self.i.valid & self.i.ready
        shifts = Signal()                # the byte received a cycle ago enters the word
        newest = Signal(8, reset_less=True)
        sent     = self.o.valid & self.o.ready

        # The header is whole for two bytes, its CRC, before it is acted on.
        outside = Signal()
        longest = 0xFFFF // word_bytes
        depth = Mux(command == Command.WRITE_TAPE,
                    self.config.tape_depth, self.config.activation_depth)
        m.d.sync += outside.eq((header.address + header.words > depth) | (header.words > longest))

        # Whatever is received enters the word, of which only payload is ever stored: its many
        # registers need not hear of anything else.
        m.d.sync += [shifts.eq(received), newest.eq(self.i.payload)]
        with m.If(shifts):
            m.d.sync += word.eq(Cat(word[8:], newest))

        with m.If(received):
            m.d.sync += silence.eq(0)
        with m.Elif(~silent):
            m.d.sync += silence.eq(silence + 1)

        m.d.comb += [
            crc.data.eq(Mux(self.o.valid, self.o.payload, self.i.payload)),
            crc.valid.eq(received | sent),
            self.load.payload.space.eq(command == Command.WRITE_TAPE),
            self.load.payload.address.eq(header.address),
            self.load.payload.data.eq(word),
            self.read.payload.eq(header.address),
        ]

        info = Const(int.from_bytes(info_payload(self.config), "little"), 8 * _INFO_BYTES)
        unsent = Signal(8, reset_less=True)     # the byte that is next; `left` changes earlier
        info_byte, cycles_byte, data_byte = (
            self._unsent(m, value, left) for value in (info, self.cycles, self.data.payload))
        with m.Switch(command):
            with m.Case(Command.INFO):
                m.d.sync += unsent.eq(info_byte)
            with m.Case(Command.RUN):
                m.d.sync += unsent.eq(cycles_byte)
            with m.Default():
                m.d.sync += unsent.eq(data_byte)

        def refuse(reason: Status) -> None:
            """Drop what is left of the frame, then answer with ``reason``."""
            m.d.sync += status.eq(reason)
            m.next = "Flush"

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += [self.i.ready.eq(1), crc.start.eq(1), crc.valid.eq(0)]
                m.d.sync += [index.eq(0), status.eq(Status.OK)]
                with m.If(self.i.valid & (self.i.payload == REQUEST)):
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index < _HEADER_BYTES):
                        m.d.sync += header.eq(Cat(header.as_value()[8:], self.i.payload))
                    with m.If(index == _HEADER_BYTES + _CRC_BYTES - 1):
                        m.next = "Dispatch"
                with m.Elif(silent):
                    refuse(Status.TIMED_OUT)
            with m.State("Dispatch"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [index.eq(0), left.eq(header.words << exact_log2(word_bytes))]
                with m.If(~crc.match_detected):
                    refuse(Status.DAMAGED)
                with m.Else():
                    self._dispatch(m, header, left, outside, refuse)

            with m.State("Write"):
                m.d.comb += self.i.ready.eq(left != 0)
                with m.If(left == 0):
                    m.next = "Payload-CRC"
                with m.Elif(self.i.valid):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left[:exact_log2(word_bytes)] == 1):
                        m.next = "Complete"
                with m.Elif(silent):
                    refuse(Status.TIMED_OUT)
            with m.State("Complete"):
                m.next = "Store"
            with m.State("Store"):
                m.d.comb += self.load.valid.eq(1)
                with m.If(self.load.ready):
                    m.d.sync += header.address.eq(header.address + 1)
                    m.next = "Write"
            with m.State("Payload-CRC"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == _CRC_BYTES - 1):
                        m.next = "Verdict"
                with m.Elif(silent):
                    refuse(Status.TIMED_OUT)
            with m.State("Verdict"):
                m.d.sync += index.eq(0)
                with m.If(crc.match_detected):
                    m.next = "Head"
                with m.Else():
                    refuse(Status.DAMAGED)

            with m.State("Run"):
                m.d.sync += left.eq(_CYCLES_BYTES)
                with m.If(~self.busy):
                    with m.If(self.error):
                        m.d.sync += [left.eq(0), status.eq(Status.ENGINE_ERROR)]
                    m.next = "Head"
            with m.State("Flush"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [index.eq(0), left.eq(0)]
                with m.If(~self.i.valid & silent):
                    m.next = "Head"

            with m.State("Head"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(Cat(Const(RESPONSE, 8), status, Const(0, 8 - len(status)),
                                          left).word_select(index[:2], 8)),
                    crc.start.eq(index == 0),
                    crc.valid.eq(sent & (index != 0)),
                ]
                with m.If(self.o.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == RESPONSE_HEAD - 1):
                        m.next = "Body"
            with m.State("Body"):
                with m.If(left == 0):
                    m.next = "Response-CRC"
                with m.Elif((command == Command.READ_ACTIVATIONS) & word_done):
                    m.next = "Fetch"
                with m.Else():
                    m.next = "Send"
            with m.State("Fetch"):
                m.d.comb += self.read.valid.eq(1)
                with m.If(self.read.ready):
                    m.d.sync += header.address.eq(header.address + 1)
                    m.next = "Await"
            with m.State("Await"):
                with m.If(self.data.valid):
                    m.next = "Send"
            with m.State("Send"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(unsent)]
                with m.If(self.o.ready):
                    m.d.sync += left.eq(left - 1)
                    m.next = "Body"
                    with m.If(left[:exact_log2(word_bytes)] == 1):
                        m.d.comb += self.data.ready.eq(command == Command.READ_ACTIVATIONS)
            with m.State("Response-CRC"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(Mux(index[0], crc.crc[:8], crc.crc[8:])),
                    crc.valid.eq(0),
                ]
                with m.If(self.o.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index[0]):
                        m.next = "Idle"
        return m

    def _dispatch(self, m: Module, header: View, left: Signal, outside: Signal,
                  refuse: Callable[[Status], None]) -> None:
        """Begin what an undamaged header asks for, in the FSM of ``m``.

        ``outside``: its words lie beyond the end of the memory.
        """
        with m.Switch(header.command):
            with m.Case(Command.INFO):
                m.d.sync += left.eq(_INFO_BYTES)
                m.next = "Head"
            with m.Case(Command.RUN):
                m.d.comb += self.start.eq(1)
                m.next = "Run"
            with m.Case(Command.WRITE_ACTIVATIONS, Command.WRITE_TAPE, Command.READ_ACTIVATIONS):
                with m.If(outside):
                    refuse(Status.OUT_OF_RANGE)
                with m.Elif(header.command == Command.READ_ACTIVATIONS):
                    m.next = "Head"
                with m.Else():
                    m.next = "Write"
            with m.Default():
                refuse(Status.UNKNOWN_COMMAND)

    def _unsent(self, m: Module, value: Value, left: Signal) -> Value:
        """The byte of ``value`` that is next when ``left`` bytes have not been sent.

        Values are sent lowest byte first; a power of two of bytes each.
        """
        count = len(value) // 8
        selector = Selector(8, count)
        m.submodules += selector
        m.d.comb += [selector.i[k].eq(value.word_select(-k % count, 8)) for k in range(count)]
        m.d.comb += selector.index.eq(left)
        return selector.o
