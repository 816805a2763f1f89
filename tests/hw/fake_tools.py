"""Programs that play Yosys, nextpnr and icepack: in no time, and as wrongly as a test wants."""

import json

REPORT = {
    "fmax": {"clk": {"achieved": 25.5}},
    "utilization": {name: {"used": 1, "available": 2} for name in
                    ("ICESTORM_LC", "ICESTORM_RAM", "ICESTORM_DSP", "ICESTORM_SPRAM", "SB_IO")},
    "critical_paths": [{"from": "clk", "to": "clk", "path": [
        {"from": {"cell": "a"}, "to": {"cell": "b"}, "type": "logic", "delay": 1.5}]}],
}
YOSYS = "echo design > top.json"
NEXTPNR = f"cat > top.report.json <<'END'\n{json.dumps(REPORT)}\nEND\ncat top.json > top.asc"
ICEPACK = "cat top.asc > top.bin"


def put_tools(folder, calls, yosys=YOSYS, nextpnr=NEXTPNR, icepack=ICEPACK):
    """Put the programs into ``folder``; what each does is shell text. ``calls`` logs names."""
    folder.mkdir(exist_ok=True)
    for name, version, body in (
            ("yosys", "Yosys 0.60 (fake)", yosys),
            ("nextpnr-ice40", '"nextpnr-ice40" (Version nextpnr-0.11)', nextpnr),
            ("icepack", "", icepack)):
        program = folder / name
        program.write_text(f"#!/bin/sh\ncase $1 in -V|--version) echo '{version}'; exit;; esac\n"
                           f"echo {name} >> {calls}\n{body}\n")
        program.chmod(0o755)
