"""The tables of docs/ausn-tables.md, from what `python -m bench.ausn` has measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ref.atomic import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "ausn-tables.md"
FAMILIES = {"ice40": "iCE40", "ecp5": "ECP5", "gowin": "Gowin", "xilinx": "7-series"}
PLACED = ("ice40", "ecp5")
#: Designs by name, and what the tables call them.
TITLES = {
    "AUSN 5": "**AUSN, 5 bits**",
    "AUSN 5 still": "**AUSN, 5 bits, standing still for zeros**",
    **{f"AUSN {bits}": f"AUSN, {bits} bits" for bits in (4, 6, 7, 8)},
    "AUSN 5, 4 taps": "AUSN, 5 bits, tree over 4 taps",
    "AUSN 3-5, six splits": "AUSN, six splits of 3 to 5 bits at run time",
    "AUSN 3-5, all splits": "AUSN, all eight splits of 3 to 5 bits at run time",
    "AUSN 5, as it reads": "AUSN, 5 bits, written as it reads",
    **{f"Booth {bits}": f"linear, {bits} bits, Booth lanes by hand" for bits in (4, 5, 6, 7, 8)},
    "Booth 6, 4 taps": "linear, 6 bits, Booth lanes, tree over 4 taps",
    **{f"linear {bits}": f"linear, {bits} bits, `*` by Yosys" for bits in (4, 5, 6, 7, 8)},
    "linear 8 direct": "linear, 8 bits, `*`, operands without registers",
    "linear 8 still": "linear, 8 bits, `*`, standing still for zeros",
}
#: What AUSN of five bits is compared with, and the most that it should be of that.
AREA_BARS = {"linear 8": "0.45", "linear 8 direct": "0.45", "linear 6": "0.75", "linear 5": "1",
             "Booth 6": "1", "linear 4": "", "Booth 8": "", "Booth 5": "", "Booth 4": ""}
ENERGY_BARS = {"linear 8": "0.5", "linear 8 direct": "0.5", "Booth 8": "0.5"}

Results = dict[tuple[str, str], dict[str, Any]]


def stored(name: str) -> Results:
    """The entries of a result file by family and design."""
    text = (ROOT / "bench" / "results" / name).read_text()
    return {(one["family"], one["design"]): one for one in json.loads(text)["results"]}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table of these columns and rows of cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(results: Results, family: str, design: str, key: str, digits: int = 1) -> str:
    """One figure, or nothing where it was not measured."""
    found = results.get((family, design), {}).get(key)
    return "" if found is None else f"{found:.{digits}f}"


def ratio(results: Results, family: str, ours: str, other: str, key: str, bar: str) -> str:
    """One design's figure over another's, and whether the bar holds; nothing if not measured."""
    if not results.keys() >= {(family, ours), (family, other)}:
        return ""
    found = results[family, ours][key] / results[family, other][key]
    if not bar:
        return f"{found:.2f}"
    return f"{found:.3f}, " + ("met" if found <= float(bar) else "**missed**")


def area_table() -> str:
    """Lookup tables per multiply-accumulate."""
    results = stored("ausn_area.json")
    rows = [[title, *(number(results, family, design, "luts_per_mac") for family in FAMILIES)]
            for design, title in TITLES.items()
            if any((family, design) in results for family in FAMILIES)]
    return markdown(["weights", *FAMILIES.values()], rows)


def routed_tables() -> str:
    """Logic cells after placing, clocks, and what AUSN is of the others."""
    results = stored("ausn_routed.json")
    rows = [[title, *(number(results, family, design, key, digits) for family in PLACED
                      for key, digits in (("cells_per_mac", 1), ("achieved_mhz", 0)))]
            for design, title in TITLES.items() if ("ice40", design) in results]
    text = markdown(["weights", "iCE40", "MHz", "ECP5", "MHz"], rows)
    rows = [[TITLES[other], bar, *(ratio(results, family, ours, other, "cells_per_mac", bar)
                                   for family in PLACED for ours in ("AUSN 5", "AUSN 5 still"))]
            for other, bar in AREA_BARS.items()]
    head = ["cells of AUSN, 5 bits, over those of", "bar", "iCE40", "... still", "ECP5",
            "... still"]
    return text + "\n" + markdown(head, rows)


def energy_table(family: str) -> str:
    """Activity per multiply-accumulate on one family."""
    results = stored("ausn_energy.json")
    rows = []
    for design, title in TITLES.items():
        if (family, design) not in results:
            continue
        share = ""
        if design != "AUSN 5 still":
            share = ratio(results, family, "AUSN 5 still", design, "energy_per_mac",
                          ENERGY_BARS.get(design, ""))
        method = results[family, design]["method"] if design.startswith("linear") else ""
        rows.append([title + (f" ({method})" if method else ""),
                     *(number(results, family, design, key) for key in
                       ("energy_per_mac", "settled_per_mac", "clocks_per_mac",
                        "toggles_per_mac")), share])
    return markdown([FAMILIES[family], "energy", "settled", "of it clocks", "toggles",
                     "still lanes to this"], rows)


def page() -> str:
    """The whole page."""
    return f"""# Lanes that shift and add, in numbers
`python -m bench.ausn` measures all this and writes this page; [ausn-lanes.md](ausn-lanes.md) says
what the designs are and how it is measured. All are arrays of 4 pixels by 8 channels with
accumulators of 20 bits.

## Lookup tables per multiply-accumulate
Yosys, unplaced ([ausn_area.json](../bench/results/ausn_area.json)).

{area_table()}
## Placed and routed
Logic cells per multiply-accumulate and the clock reached, of 48 (iCE40HX8K) and 80 MHz (ECP5-25F)
asked for ([ausn_routed.json](../bench/results/ausn_routed.json)).

{routed_tables()}
## Switching activity
Per multiply-accumulate, without unit ([ausn_energy.json](../bench/results/ausn_energy.json)); the
bar is half of 8-bit linear weights'.

{energy_table("ice40")}
{energy_table("ecp5")}"""


def write() -> None:
    """Write the stored results' page."""
    write_atomically(PAGE, page().encode())
