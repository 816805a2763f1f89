"""The page on quantization: its code runs, and its table holds every setting."""

import re
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from quant import Settings
from quant.__main__ import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE.split("## When accuracy is low")[0],
                    re.DOTALL)


@pytest.fixture
def digits(tmp_path, monkeypatch):
    source = ROOT / "models" / "digits"
    shutil.copy(source / "digits.onnx", tmp_path / "net.onnx")
    for name in ("calib.npz", "test.npz"):
        with np.load(source / name) as arrays:      # fewer samples, so that it takes no time
            np.savez(tmp_path / name, **{key: value[:40] if key in ("x", "y") else value
                                         for key, value in arrays.items()})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_code_runs(digits):
    for kind, text in BLOCKS:
        if kind == "python":
            names = {}
            exec(compile(text, "docs/quantization.md", "exec"), names)
            assert names["model"].name == "net"
        else:
            assert main(text.split()[3:]) == 0
    assert [kind for kind, _ in BLOCKS] == ["sh", "python", "python"]
    assert set(names) >= {"seen", "proofs", "accuracy", "analysis"}


def test_its_commands_run(digits):
    main(["quantize", "net.onnx", "--calib", "calib.npz", "-o", "net.q.npz"])
    commands = re.findall(r"\| `python -m quant ([^`]*)` \|", PAGE)
    assert [command.split()[0] for command in commands] == ["inspect", "eval", "analyze", "prove"]
    for command in commands:
        assert main(command.split()) == 0


def test_its_table_holds_every_setting():
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in
            PAGE.split("| setting (flag)")[1].split("\n\n")[0].splitlines()[2:]]
    assert {name.strip("`"): default.strip("`").replace('"', "'") for name, _, default in rows} == {
        name: repr(value) for name, value in asdict(Settings()).items()}
    assert [name.strip("`") for name, *_ in rows] == [field.name for field in fields(Settings)]
    assert len(rows) <= 15


def test_its_links_lead_somewhere():
    anchors = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
               for line in PAGE.splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        assert file.startswith("..") or (ROOT / "docs" / file).exists(), target
        assert file or anchor in anchors, target
