"""What an FPGA holds, in plain numbers."""

from dataclasses import dataclass

from .sites import ECP5_25F_SITES, ECP5_85F_SITES, Sites


@dataclass(frozen=True)
class Budget:
    """Cells of one device that a design can use, each a count."""

    lut4: int
    multipliers: int                # SB_MAC16 (16x16 or two 8x8) or MULT18X18D
    block_rams: int                 # SB_RAM40 or DP16KD
    block_ram_bits: int             # of one block RAM
    sprams: int = 0                 # SB_SPRAM256KA: 16 bits x 16384, one port


@dataclass(frozen=True)
class Device:
    """One FPGA: its name, its family as nextpnr names it, its budget.

    ``cells`` maps the kinds of a report to the names in ``utilization`` of nextpnr's JSON report;
    ``sites`` are where its blocks lie, where that is of use.
    """

    name: str
    family: str                     # "ice40" or "ecp5"
    budget: Budget
    cells: tuple[tuple[str, str], ...]
    sites: Sites | None = None


ICE40UP5K = Device(
    name="iCE40UP5K", family="ice40",
    budget=Budget(lut4=5280, multipliers=8, block_rams=30, block_ram_bits=4096, sprams=4),
    cells=(("LUT4", "ICESTORM_LC"), ("SB_MAC16", "ICESTORM_DSP"), ("BRAM", "ICESTORM_RAM"),
           ("SPRAM", "ICESTORM_SPRAM")))

ECP5_CELLS = (("LUT4", "TRELLIS_COMB"), ("FF", "TRELLIS_FF"), ("MULT18X18D", "MULT18X18D"),
              ("DP16KD", "DP16KD"))

ECP5_25F = Device(
    name="LFE5U-25F", family="ecp5", cells=ECP5_CELLS, sites=ECP5_25F_SITES,
    budget=Budget(lut4=24288, multipliers=28, block_rams=56, block_ram_bits=18432))

ECP5_45F = Device(
    name="LFE5U-45F", family="ecp5", cells=ECP5_CELLS,
    budget=Budget(lut4=43848, multipliers=72, block_rams=108, block_ram_bits=18432))

ECP5_85F = Device(
    name="LFE5U-85F", family="ecp5", cells=ECP5_CELLS, sites=ECP5_85F_SITES,
    budget=Budget(lut4=83640, multipliers=156, block_rams=208, block_ram_bits=18432))
