"""Where an ECP5 has its multiplier blocks and block RAMs, in nextpnr's coordinates and names."""

from dataclasses import dataclass
from typing import NamedTuple


class Site(NamedTuple):
    """A place for one block."""

    x: int
    y: int
    name: str


@dataclass(frozen=True)
class Sites:
    """Blocks lie in groups of four, one above the other: rows of multipliers, of block RAMs.

    ``columns`` are the groups' left ends.
    """

    columns: tuple[int, ...]
    multiplier_rows: tuple[int, ...]
    block_ram_rows: tuple[int, ...]

    def multipliers(self) -> list[Site]:
        """All MULT18X18D, group by group, the groups of a column one after the other."""
        return [Site(x + offset, y, f"X{x + offset}/Y{y}/MULT18_{offset}")
                for x in self.columns for y in self.multiplier_rows for offset in (0, 1, 4, 5)]

    def block_rams(self) -> list[Site]:
        """All DP16KD, group by group, the groups of a column one after the other."""
        return [Site(x + 2 * number, y, f"X{x + 2 * number}/Y{y}/EBR{number}")
                for x in self.columns for y in self.block_ram_rows for number in range(4)]


ECP5_25F_SITES = Sites(columns=(4, 13, 22, 33, 42, 51, 60), multiplier_rows=(13,),
                       block_ram_rows=(25, 37))
ECP5_85F_SITES = Sites(columns=(4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114),
                       multiplier_rows=(10, 34, 58), block_ram_rows=(22, 46, 70, 82))
