"""Simulation models of the two ECP5 cells of which Yosys has none: DP16KD and MULT18X18D.

Written from Lattice's FPGA-TN-02204 (memory) and FPGA-TN-02205 (sysDSP), as far as Yosys' maps
``brams_map_16kd.v`` and ``dsp_map_18x18.v`` make use of them.
"""


def pins(prefix: str, count: int) -> str:
    """The one-bit pins of a bus, highest first, as in a concatenation."""
    return ", ".join(f"{prefix}{bit}" for bit in reversed(range(count)))


def multiplier_model() -> str:
    """MULT18X18D: a signed or unsigned 18 x 18 product, without registers or with all but one.

    As inferred it has none; as instantiated one for the operands and one for the product, without
    enable and reset. Parameters that ask for anything else make an instance of a module that does
    not exist, which Yosys reports.
    """
    names = [f"REG_{name}_{pin}" for name in ("INPUTA", "INPUTB", "OUTPUT")
             for pin in ("CLK", "CE", "RST")]
    parameters = "".join(f'  parameter {name} = "NONE";\n' for name in names)
    unlike = " || ".join(f'{name} != (REGISTERED ? "CLK0" : "NONE")'
                         for name in names if name.endswith("CLK"))
    return f"""
module MULT18X18D(input {pins("A", 18)}, input {pins("B", 18)}, input SIGNEDA, SIGNEDB,
                  input {pins("C", 18)}, input SOURCEA, SOURCEB, input CLK0, CE0, RST0,
                  output {pins("P", 36)});
{parameters}  localparam REGISTERED = REG_OUTPUT_CLK == "CLK0";
  generate if ({unlike}) unsupported_use_of_MULT18X18D unsupported();
  endgenerate
  wire signed [18:0] a = {{SIGNEDA & A17, {pins("A", 18)}}};
  wire signed [18:0] b = {{SIGNEDB & B17, {pins("B", 18)}}};
  generate if (REGISTERED) begin
    reg signed [18:0] a_register = 0, b_register = 0;
    reg signed [37:0] p = 0;
    always @(posedge CLK0) begin
      a_register <= a;
      b_register <= b;
      p <= a_register * b_register;
    end
    assign {{{pins("P", 36)}}} = p[35:0];
  end else begin
    wire signed [37:0] p = a * b;
    assign {{{pins("P", 36)}}} = p[35:0];
  end endgenerate
endmodule
"""


def block_ram_model() -> str:
    """DP16KD with one clock edge, empty at first: port A writes, port B reads, both equally wide.

    A write enables each 9 bits by one of the lowest address pins when a word has 18 or 36 bits. A
    36-bit word comes in as DIB, DIA and goes out as DOB, DOA; a narrower one goes out at DOB.
    Parameters that ask for anything else make an instance of a module that does not exist, which
    Yosys reports. Resets are ignored: Yosys ties them low for memories without one.
    """
    contents = [f"INITVAL_{index:02X}" for index in range(64)]
    fixed = {"REGMODE_A": "NOREG", "REGMODE_B": "NOREG", "CSDECODE_A": "0b000",
             "CSDECODE_B": "0b000", "CLKAMUX": "CLKA", "CLKBMUX": "CLKB"}
    parameters = "".join(f'  parameter {name} = "{value}";\n' for name, value in fixed.items())
    unlike = " || ".join(f'{name} != "{value}"' for name, value in fixed.items())
    ports = ",\n  ".join(f"input {pins('DI' + side, 18)}, {pins('AD' + side, 14)}, "
                         f"{pins('CS' + side, 3)}, CE{side}, OCE{side}, CLK{side}, WE{side}, "
                         f"RST{side}, output {pins('DO' + side, 18)}" for side in "AB")
    return f"""
module DP16KD({ports});
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "AUTO";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
{parameters}  parameter [319:0] {", ".join(name + " = 0" for name in contents)};
  localparam WIDTH = DATA_WIDTH_A;
  localparam SHIFT = WIDTH == 36 ? 5 : WIDTH == 18 ? 4 : WIDTH == 9 ? 3 : WIDTH / 2;
  localparam LANES = WIDTH > 9 ? WIDTH / 9 : 1;
  localparam LANE = WIDTH / LANES;
  generate if (DATA_WIDTH_A != DATA_WIDTH_B || {unlike}
               || |{{{", ".join(contents)}}})
    unsupported_use_of_DP16KD unsupported();
  endgenerate
  wire [35:0] data = {{{pins("DIB", 18)}, {pins("DIA", 18)}}};
  wire [13:0] write_address = {{{pins("ADA", 14)}}};
  wire [13:0] read_address = {{{pins("ADB", 14)}}};
  reg [WIDTH-1:0] words [0:(16384 >> SHIFT) - 1];
  reg [WIDTH-1:0] out = 0;
  genvar lane;
  generate for (lane = 0; lane < LANES; lane = lane + 1)
    always @(posedge CLKA)
      if (CEA && WEA && (LANES == 1 || write_address[lane]))
        words[write_address >> SHIFT][LANE*lane +: LANE] <= data[LANE*lane +: LANE];
  endgenerate
  always @(posedge CLKB)
    if (CEB) out <= words[read_address >> SHIFT];
  assign {{{pins("DOA", 18)}}} = out;
  assign {{{pins("DOB", 18)}}} = WIDTH == 36 ? out >> 18 : out;
endmodule
"""
