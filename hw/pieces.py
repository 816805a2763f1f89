"""Cut the one function that CXXRTL makes of a circuit, for which compilers take quadratic time."""

import re

#: Lines of a piece, at least.
LINES = 300
#: The function in CXXRTL's source: its head, its body, its end.
FUNCTION = re.compile(r"^bool p_top::eval\(performer \*performer\) \{\n(.*?)"
                      r"^\treturn converged;\n\}\n", re.M | re.S)
#: What begins it: values between its statements, and flags such as the clock's edge.
VALUE, FLAG = re.compile(r"\tvalue<\d+> \w+;"), re.compile(r"\tbool (\w+) = .*;")
#: The last line of a statement, not one within a block nor the beginning of one. An access of a
#: memory begins with its index and, where it reads, an assertion.
LAST = re.compile(r"\t(\}|(?!auto |CXXRTL_ASSERT)[^\t].*;)")
#: The end of the circuit's structure, where its members are declared.
STRUCTURE_END = "}; // struct p_top"


def cut(code: str) -> str:
    """CXXRTL's source of a flat circuit with its function ``eval`` cut into methods called in turn.

    Values become members, flags are handed on. A netlist of ten thousand cells can then be
    optimized: a cycle takes 35 us instead of a millisecond.
    """
    function = FUNCTION.search(code)
    assert function is not None
    values: list[str] = []
    flags: list[tuple[str, str]] = []              # name, line
    pieces: list[list[str]] = [[]]
    for line in function[1].splitlines():
        if VALUE.fullmatch(line):
            values.append(line)
        elif flag := FLAG.fullmatch(line):
            flags.append((flag[1], line))
        elif not line.startswith("\t//"):
            pieces[-1].append(line)
            if len(pieces[-1]) >= LINES and LAST.fullmatch(line):
                pieces.append([])
    parameters = ", ".join(f"bool &{name}" for name, _ in flags)
    methods = [f"piece{number}" for number in range(len(pieces))]
    members = [*values, *(f"\tvoid {method}({parameters});" for method in methods)]
    bodies = [f"__attribute__((noinline)) void p_top::{method}({parameters}) {{\n"
              + "\n".join(piece) + "\n}\n" for method, piece in zip(methods, pieces, strict=True)]
    calls = [f"\t{method}({', '.join(name for name, _ in flags)});" for method in methods]
    whole = "\n".join(["bool p_top::eval(performer *performer) {", *(line for _, line in flags),
                       *calls, "\treturn converged;", "}", ""])
    before = code[:function.start()].replace(STRUCTURE_END, "\n".join([*members, STRUCTURE_END]))
    return before + "".join(bodies) + whole + code[function.end():]
