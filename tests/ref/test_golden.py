"""Golden vectors: read back as a test bench would, and what the command refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ref import AveragePool2d, Conv2d, Data, run_layers, save_model
from ref.errors import run_command
from ref.golden import main, write_golden
from tests.ref.random_models import GRAPH_KINDS, random_model, random_samples


def read_hexadecimal(path, entry):
    """The file as $readmemh reads it, as signed or unsigned integers of its shape."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("//")]
    values = np.array([int(line, 16) for line in lines])
    if entry["signed"]:
        values = np.where(values >= 1 << (entry["bits"] - 1), values - (1 << entry["bits"]), values)
    return values.reshape(entry["shape"])


@pytest.fixture(params=range(4))
def case(request):
    model = random_model(np.random.default_rng(request.param), layers=3, kinds=GRAPH_KINDS)
    x = random_samples(np.random.default_rng(9), model, 3)
    return model, Data(x, None, model.input.x_scale, model.input.x_zero_point)


def test_every_file_holds_the_evaluators_integers(case, tmp_path):
    model, data = case
    manifest = write_golden(model, data, tmp_path / "golden", 2)
    assert manifest == json.loads((tmp_path / "golden" / "manifest.json").read_text())
    maps = run_layers(model, data.x[:2])
    stored = np.load(tmp_path / "golden" / "golden.npz")
    seen = set()
    for entry in manifest["files"]:
        values = read_hexadecimal(tmp_path / "golden" / entry["file"], entry)
        if "tensor" in entry:
            seen.add(entry["tensor"])
            assert np.array_equal(values, maps[entry["tensor"]])
            assert np.array_equal(stored[f"map/{entry['tensor']}"], values)
        elif "data" in entry:
            assert np.array_equal(values, data.x[:2]) and np.array_equal(stored["x"], values)
        else:
            layer = next(one for one in model.layers if one.name == entry["layer"])
            weight = (layer.weight[entry["channel"]].astype(int) if isinstance(layer, Conv2d)
                      else 1)
            total = int((weight * values).sum()) + int(
                layer.requantization.bias[entry["channel"]])
            assert total == entry["sum"] == stored[f"sum/{layer.name}"]
            assert total in (layer.proof.lo, layer.proof.hi)
    assert seen == set(model.tensors)
    proved = sum(isinstance(layer, Conv2d | AveragePool2d) for layer in model.layers)
    assert len(manifest["files"]) == 1 + len(seen) + proved


def test_a_second_run_replaces_the_first_and_nothing_else(case, tmp_path, capsys):
    model, data = case
    save_model(model, tmp_path / "net.q.npz")
    np.savez(tmp_path / "data.npz", x=data.x, x_scale=data.x_scale,
             x_zero_point=data.x_zero_point)
    command = [str(tmp_path / "net.q.npz"), "--data", str(tmp_path / "data.npz"), "-o"]
    for samples in ("2", "3"):
        assert main([*command, str(tmp_path / "golden"), "--samples", samples]) == 0
    assert len(np.load(tmp_path / "golden" / "golden.npz")["x"]) == 3
    capsys.readouterr()
    for output, words in ((tmp_path, "holds other files"), (tmp_path / "net.q.npz", "is a file"),
                          (tmp_path / "no" / "folder", "does not exist")):
        assert run_command(main, [*command, str(output)]) == 2
        assert words in capsys.readouterr().err
    assert run_command(main, [*command, str(tmp_path / "new"), "--samples", "0"]) == 2
    assert "give 1 or more" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "golden", "net.q.npz"]
