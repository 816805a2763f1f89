"""AUSN lanes beside linear multipliers: lookup tables, placed cells, switching activity, a figure.

    python -m bench.ausn [MEASURE ...] [--family NAME] [--design NAME]

Runs the measures asked for, or all, and then draws the figure and writes docs/ausn-tables.md; what
they are say the modules `bench.ausn_area`, `bench.ausn_routed`, `bench.ausn_energy`,
`bench.ausn_area_plot` and `bench.ausn_page`.
"""

from __future__ import annotations

import argparse
import sys

from bench import ausn_area, ausn_area_plot, ausn_energy, ausn_page, ausn_routed
from ref.errors import UserError, run_command

MEASURES = {"area": ausn_area.run, "routed": ausn_routed.run, "energy": ausn_energy.run}


def main(arguments: list[str]) -> int:
    """Measure what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.ausn", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--family", action="append", metavar="NAME",
                        help=", ".join(ausn_area.FAMILIES))
    parser.add_argument("--design", action="append", metavar="NAME",
                        help=", ".join(ausn_area.DESIGNS))
    options = parser.parse_args(arguments)
    for given, known in ((options.measures, MEASURES), (options.family or [], ausn_area.FAMILIES),
                         (options.design or [], ausn_area.DESIGNS)):
        for name in given:
            if name not in known:
                raise UserError(f"unknown name {name!r}; choose among {', '.join(known)}")
    for name in options.measures or MEASURES:
        MEASURES[name](options.family or [], options.design or [])
    ausn_area_plot.write()
    ausn_page.write()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
