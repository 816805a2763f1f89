"""Divider settings of the iCE40 and ECP5 phase-locked loops for a wanted frequency.

Ranges: Lattice FPGA-TN-02052 (iCE40 sysCLOCK PLL) and FPGA-DS-02012 (ECP5 data sheet). All
frequencies are in MHz.
"""

from dataclasses import dataclass
from typing import TypeVar

#: Largest accepted distance between the wanted and the attainable frequency.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Ice40Pll:
    """Settings of SB_PLL40: ``output = input * (divf + 1) / ((divr + 1) * 2^divq)``."""

    divr: int                       # 0..15
    divf: int                       # 0..127
    divq: int                       # 1..6
    filter_range: int               # 1..6, follows from the phase detector's frequency
    output_mhz: float


@dataclass(frozen=True)
class Ecp5Pll:
    """Settings of EHXPLLL with feedback from CLKOP: ``output = input * clkfb_div / clki_div``."""

    clki_div: int                   # 1..128
    clkfb_div: int                  # 1..80
    clkop_div: int                  # 1..128, sets the oscillator to output * clkop_div
    output_mhz: float


def ice40_pll(input_mhz: float, output_mhz: float) -> Ice40Pll:
    """The settings nearest to ``output_mhz`` (16..275) with the phase detector at 10..133 MHz and
    the oscillator at 533..1066 MHz.

    Among equally near ones the fastest phase detector wins: it has the least jitter. Raises
    `ValueError` when no setting comes within 0.5 %.
    """
    candidates = []
    for divr in range(16):
        detector = input_mhz / (divr + 1)
        if not 10 <= detector <= 133:
            continue
        for divq in range(1, 7):
            divf = round(output_mhz * 2 ** divq / detector) - 1
            oscillator = detector * (divf + 1)
            if 0 <= divf <= 127 and 533 <= oscillator <= 1066:
                output = oscillator / 2 ** divq
                bounds = (17, 26, 44, 66, 101)
                filter_range = 1 + sum(detector >= bound for bound in bounds)
                candidates.append(Ice40Pll(divr, divf, divq, filter_range, output))
    candidates = [pll for pll in candidates if 16 <= pll.output_mhz <= 275]
    return _nearest(candidates, input_mhz, output_mhz)


def ecp5_pll(input_mhz: float, output_mhz: float) -> Ecp5Pll:
    """The settings nearest to ``output_mhz`` (10..400) with the phase detector at 10..400 MHz and
    the oscillator at 400..800 MHz, as near to 600 MHz as possible.

    Among equally near ones the fastest phase detector wins. Raises `ValueError` when no setting
    comes within 0.5 %.
    """
    candidates = []
    for clki_div in range(1, 129):
        detector = input_mhz / clki_div
        clkfb_div = round(output_mhz / detector)
        output = detector * clkfb_div
        if not (10 <= detector <= 400 and 1 <= clkfb_div <= 80 and 10 <= output <= 400):
            continue
        clkop_div = min(max(round(600 / output), 1), 128)
        if 400 <= output * clkop_div <= 800:
            candidates.append(Ecp5Pll(clki_div, clkfb_div, clkop_div, output))
    return _nearest(candidates, input_mhz, output_mhz)


Pll = TypeVar("Pll", Ice40Pll, Ecp5Pll)


def _nearest(candidates: list[Pll], input_mhz: float, output_mhz: float) -> Pll:
    """The first candidate nearest to ``output_mhz``; a sentence when it is more than 0.5 % off."""
    best = min(candidates, key=lambda pll: abs(pll.output_mhz - output_mhz), default=None)
    if best is None or abs(best.output_mhz - output_mhz) > TOLERANCE * output_mhz:
        near = f"; the nearest is {best.output_mhz:g} MHz" if best else ""
        raise ValueError(f"the PLL cannot make {output_mhz:g} MHz from {input_mhz:g} MHz{near}")
    return best
