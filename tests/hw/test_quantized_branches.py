"""Float networks that branch, quantized and run in the engine: every integer and every cycle."""

import pytest

from bench import accuracy
from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.cxxrtl import compiled_engine
from hw.simulate import simulate
from quant import find_preset, import_onnx, quantize, with_settings
from ref.data import load_data

from ..quant.networks import image_data
from ..quant.test_branches import BRANCHING
from .engines import CONFIGS, engine_of


def check(model, config, x, engine):
    program = compile_program(model, config)
    result = simulate(model, program, x, engine)
    assert result["mismatches"] == 0, result["first_mismatch"]
    for layer in result["layers"]:
        assert layer["cycles"] == layer["predicted_cycles"]


@pytest.mark.parametrize("config, preset", [("c4p3", "w8a8"), ("c8p3w4", "w4a8")])
@pytest.mark.parametrize("name", BRANCHING)
def test_branches(tmp_path, name, config, preset):
    make, shape, _ = BRANCHING[name]
    data = image_data(shape)
    settings = with_settings(find_preset(preset),
                             accumulator_bits=CONFIGS[config].accumulator_bits)
    model = quantize(import_onnx(make().save(tmp_path)), data, settings)
    check(model, CONFIGS[config], data.x[:3], engine_of(config))


@pytest.mark.long
@pytest.mark.parametrize("preset, config", [
    ("w8a8", EngineConfig(channels=16, pixels=8, requantizers=8, tape_depth=8192,
                          activation_depth=8192, single_port=False, strips=4)),
    ("w4a8", EngineConfig(channels=8, pixels=4, requantizers=8, tape_depth=16384,
                          activation_depth=16384, single_port=True, weight_bits=4))])
def test_resnet8(tmp_path, monkeypatch, preset, config):
    if not accuracy.SHARED.is_dir():
        pytest.skip(f"no data folder {accuracy.SHARED}")
    pytest.importorskip("PIL", reason="expanding the images needs Pillow")
    monkeypatch.setattr(accuracy, "DATA", tmp_path)
    calib, test = (accuracy.data_file("resnet8", split) for split in ("calib", "test"))
    model = quantize(accuracy.NETWORKS["resnet8"][0], calib, find_preset(preset))
    check(model, config, load_data(test).x[:3], compiled_engine(config))
