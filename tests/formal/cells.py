"""Models of the cells that components name, in Verilog: those that come with Yosys, and our own."""

from hw.cxxrtl import yosys_share
from hw.ecp5_cells import multiplier_model
from hw.netlist import cell_models
from hw.tools import find_tool


def yosys_cells(folder: str, files: list[str], cells: list[str]) -> str:
    """The models of ``cells`` from the ``files`` of a device's ``folder`` in Yosys' library."""
    library = "".join((yosys_share(find_tool("yosys")) / folder / name).read_text()
                      for name in files)
    return cell_models("".join(f"\n  cell \\{cell} \\{cell}\n" for cell in cells), library)


def ice40_cells() -> str:
    """The multiplier block of an iCE40."""
    return yosys_cells("ice40", ["cells_sim.v"], ["SB_MAC16"])


def ecp5_cells() -> str:
    """Carry cells, tables, multiplexers and multiplier block of an ECP5."""
    return yosys_cells("lattice", ["common_sim.vh", "ccu2c_sim.vh"],
                       ["CCU2C", "LUT4", "PFUMX"]) + multiplier_model()
