"""The parameters of one engine, and what follows from them."""

import hashlib
import json
from dataclasses import asdict, dataclass

from ref.errors import UserError
from ref.model import SHIFTS

#: Bits of a biased sum below those of the products of levels: levels of four bits are bytes / 2^3.
FRACTION_BITS = 3
#: Bits by which a channel of an engine of codes names its shift, and how many and far these can be.
SHIFT_BITS = 3
CODE_SHIFTS, MOST_SHIFT = 1 << SHIFT_BITS, 16 + FRACTION_BITS


@dataclass(frozen=True)
class EngineConfig:
    """One engine: ``pixels * channels`` multipliers and the memories beside them.

    A word of activation memory holds ``channels`` bytes, one of the tape ``channels`` weights.
    ``tape_depth`` and ``activation_depth`` are in words; ``requantizers`` results are produced per
    cycle.

    With ``codes`` activations are AUSN codes of four bits, two in a byte, the first half of the
    channels are multiplied by in blocks, and the others are shifted and added (`hw.code_array`).
    With ``mixed`` activations are bytes, and it is every other channel that is shifted and added:
    those of odd places in a word, by AUSN weights of four bits (`hw.term_product`).
    """

    channels: int                # C: bytes per memory word, output channels at a time
    pixels: int                  # P: neighbouring output pixels at a time
    requantizers: int            # R: C, C/2, C/4 or C/8
    tape_depth: int              # words of weight memory
    activation_depth: int        # words of activation memory
    single_port: bool            # activation memory does one access per cycle, read or write
    strips: int = 1              # strips of a map that a word may hold side by side: 1 or 4
    accumulator_bits: int = 24   # of a sum of products
    bias_bits: int = 0           # more bits of a sum with its bias
    multiplier_slice: int = 16   # multiplier bits per partial product in the requantizer
    weight_bits: int = 8         # bits of a weight, 3 to 8
    maximum: bool = True         # lanes can keep the largest product, for max pooling
    leaky: bool = True           # negative sums can have multipliers of their own
    clips: bool = True           # results can have bounds other than those of bytes
    shifts: tuple[int, ...] = SHIFTS    # of requantizations, as many of the reference's as needed
    table_pixels: int = 0        # the last pixels' multipliers are made of lookup tables
    pipelined: bool = False      # more registers, and multiplexers behind them, as suits ECP5
    codes: bool = False          # lanes of both kinds, on activations in codes
    mixed: bool = False          # lanes of both kinds, on bytes

    def __post_init__(self) -> None:
        """Refuse parameters that do not go together, in a sentence."""
        object.__setattr__(self, "shifts", tuple(self.shifts))      # JSON has lists
        if self.channels not in (2, 4, 8, 16, 32):
            raise UserError(f"channels must be 2, 4, 8, 16 or 32, not {self.channels}")
        if not 1 <= self.pixels <= 16:
            raise UserError(f"pixels must be 1 to 16, not {self.pixels}")
        if not 0 <= self.table_pixels <= self.pixels:
            raise UserError(f"table_pixels must be 0 to {self.pixels} (pixels), not "
                            f"{self.table_pixels}")
        if (self.requantizers < 1 or self.channels % self.requantizers
                or 8 % (self.channels // self.requantizers)):
            raise UserError(f"requantizers must be channels ({self.channels}) over 1, 2, 4 or 8, "
                            f"not {self.requantizers}")
        if self.strips not in (1, 4) or self.channels % self.strips:
            raise UserError(f"strips must be 1, or 4 where channels ({self.channels}) can be "
                            f"divided by it, not {self.strips}")
        for name in ("tape_depth", "activation_depth"):
            if not 1 <= getattr(self, name) <= 1 << 16:
                raise UserError(f"{name} must be 1 to 65536 words, not {getattr(self, name)}")
        if self.multiplier_slice not in (4, 8, 16):
            raise UserError(f"multiplier_slice must be 4, 8 or 16, not {self.multiplier_slice}")
        if not 3 <= self.weight_bits <= 8:                   # copies of maps multiply by 2
            raise UserError(f"weight_bits must be 3 to 8, not {self.weight_bits}")
        if self.channels * self.weight_bits % 8:
            raise UserError(f"weight_bits must be such that the {self.channels} channels' weights "
                            f"are whole bytes, not {self.weight_bits}")
        if self.mixed and (self.codes or not self.pipelined or self.weight_bits != 4
                           or self.channels // self.strips % 2):
            raise UserError("an engine of lanes of both kinds, on bytes, is pipelined, has weights "
                            "of 4 bits and an even number of channels in each strip of a word")
        if self.codes:
            self._check_codes()
            return
        if self.shifts != tuple(shift for shift in SHIFTS
                                if shift == SHIFTS[0] or shift in self.shifts):
            raise UserError(f"shifts must be {SHIFTS[0]} and some of "
                            f"{', '.join(map(str, SHIFTS[1:]))}, not {self.shifts}")
        if not 16 <= self.accumulator_bits <= 24:            # `hw.requantizer.constants_layout`
            raise UserError(f"accumulator_bits must be 16 to 24, not {self.accumulator_bits}")
        if not 0 <= self.bias_bits <= 24 - self.accumulator_bits:
            raise UserError(f"bias_bits must be 0 to {24 - self.accumulator_bits}, "
                            f"not {self.bias_bits}")

    def _check_codes(self) -> None:
        """Refuse what engines of codes are not made for."""
        if (self.channels, self.weight_bits, self.strips, self.accumulator_bits, self.bias_bits,
                self.requantizers) != (8, 4, 1, 16, 0, 4):
            raise UserError("an engine of codes has 8 channels, 4 requantizers, weights of 4 bits, "
                            "sums of 16 and no strips")
        if self.pipelined or self.table_pixels or self.maximum or self.leaky or self.clips:
            raise UserError("an engine of codes has no pipelined lanes, products of lookup tables, "
                            "max pooling, leaky ReLU or clip bounds")
        if not 1 <= len(self.shifts) <= CODE_SHIFTS or (
                list(self.shifts) != sorted(set(self.shifts))
                or not 1 <= self.shifts[0] <= self.shifts[-1] <= MOST_SHIFT):
            raise UserError(f"an engine of codes has up to {CODE_SHIFTS} shifts, from 1 to "
                            f"{MOST_SHIFT} and growing, not {self.shifts}")

    @property
    def mac_units(self) -> int:
        """Products per cycle."""
        return self.channels * self.pixels

    @property
    def biased_bits(self) -> int:
        """Bits of a sum with its bias."""
        return self.accumulator_bits + self.bias_bits

    @property
    def block_channels(self) -> int:
        """Channels whose products multiplier blocks make; of lanes of both kinds half of them."""
        return self.channels // 2 if self.codes or self.mixed else self.channels

    @property
    def activation_bits(self) -> int:
        """Bits of an activation in memory."""
        return 4 if self.codes else 8

    @property
    def word_bytes(self) -> int:
        """Bytes of an activation word."""
        return self.channels * self.activation_bits // 8

    @property
    def tape_bytes(self) -> int:
        """Bytes of a tape word."""
        return self.channels * self.weight_bits // 8

    @property
    def largest_weight(self) -> int:
        """Largest magnitude of a weight: the range is symmetric."""
        return (1 << (self.weight_bits - 1)) - 1

    @property
    def constant_bytes(self) -> int:
        """Bytes of a channel's constants (`hw.requantizer.constants_layout`).

        With codes they are `hw.code_requantizer.constants_layout`'s.
        """
        if self.codes:
            return -(-(self.accumulator_bits + FRACTION_BITS + SHIFT_BITS) // 8)
        return 5 + 2 * self.leaky + self.clips

    @property
    def constant_words(self) -> int:
        """Tape words of constants in front of each group's weights.

        The constants of R channels, which are needed together, begin a word (`requantized`).
        """
        chunks = self.channels // self.requantizers
        return chunks * -(-self.requantizers * self.constant_bytes // self.tape_bytes)

    @property
    def constants_in_registers(self) -> bool:
        """Whether constants lie beside their requantizers; elsewhere they are in block RAM."""
        chunks = self.channels // self.requantizers
        return chunks == 1 or (chunks == 2 and self.pipelined)

    def requantized(self, requantizer: int) -> range:
        """The channels of a word that a requantizer takes, in this order.

        They are neighbours where they may lie far from others; elsewhere sums shift, by R channels.
        """
        share = self.channels // self.requantizers
        if self.pipelined:
            return range(requantizer * share, (requantizer + 1) * share)
        return range(requantizer, self.channels, self.requantizers)

    @property
    def drain_cycles(self) -> int:
        """Cycles in which one tile's results leave the result buffer."""
        return self.pixels * self.channels // self.requantizers

    def digest(self) -> int:
        """A 32-bit fingerprint by which a host recognises the bitstream.

        What the multipliers are made of makes no difference to a program. Engines have the
        fingerprints they had before there were others.
        """
        fields = asdict(self)
        del fields["table_pixels"]
        for kind in ("codes", "mixed"):
            if not fields[kind]:
                del fields[kind]
        text = json.dumps(fields, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
