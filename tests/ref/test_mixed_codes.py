"""Layers of which only some output channels have AUSN weights: rules, file, evaluators."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from ref import AusnCode, UserError, check_model, load_model, run_layers, save_model
from ref.onnx_integer import integer_onnx, rounded_input
from ref.oracles import EXECUTORS, run_integer_onnx
from ref.plain import run_plain
from tests.ref.random_models import random_model, random_samples


@pytest.fixture
def model():
    """A model whose first layer has 4-bit weights: levels 0..4, 6, 8, 12 in some channels."""
    for seed in itertools.count():
        model = random_model(np.random.default_rng(seed), layers=2, kinds=("mixed",), bits=8)
        layer = model.layers[0]
        if layer.weight_code == AusnCode(2, 1) and 0 < layer.coded.sum() < len(layer.coded):
            return model


def with_weights(layer, coded, value):
    """The layer with ``value`` as the first weight of its first channel that is coded or not."""
    weight = layer.weight.copy()
    weight[np.flatnonzero(layer.coded == coded)[0], 0, 0, 0] = value
    return replace(layer, weight=weight)


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda layer: with_weights(layer, True, 5), "has a weight that is no level of its code"),
    (lambda layer: with_weights(layer, True, 16), "has a weight outside -12..12"),
    (lambda layer: with_weights(layer, False, 8), "has a weight outside -7..7"),
    (lambda layer: replace(layer, coded=layer.coded[1:]), "does not say of each of its"),
    (lambda layer: replace(layer, coded=layer.coded.astype(np.int8)), "does not say of each"),
    (lambda layer: replace(layer, weight_code=None), "does not say of each of its"),
    (lambda layer: replace(layer, coded=None), "has a weight that is no level of its code")])
def test_broken_layers_are_refused(model, change, sentence):
    layer = with_weights(model.layers[0], False, 5)
    with pytest.raises(UserError, match=f"layer 'layer0' {sentence}"):
        check_model(replace(model, layers=(change(layer), *model.layers[1:])))


def test_coded_channels(model):
    layer = model.layers[0]
    assert layer.coded_channels is layer.coded
    assert replace(layer, coded=None).coded_channels.all()
    assert not replace(layer, coded=None, weight_code=None).coded_channels.any()


def test_the_file_keeps_them_and_older_files_are_read(model, tmp_path):
    path = tmp_path / "net.q.npz"
    save_model(model, path)
    assert np.array_equal(load_model(path).layers[0].coded, model.layers[0].coded)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{name: array for name, array in arrays.items() if name != "layer.0.coded"})
    with pytest.raises(UserError, match=r"net\.q\.npz is a damaged quantized model"):
        load_model(path)
    np.savez(path, **arrays | {"layer.0.coded": ~arrays["layer.0.coded"]})
    with pytest.raises(UserError, match="layer 'layer0' has a weight"):
        load_model(path)

    older = random_model(np.random.default_rng(0), layers=2, kinds=("ausn", "dense"))
    save_model(older, path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays["model"]))
    header["version"] = 6
    for layer in header["layers"]:
        layer.pop("mixed", None)
    np.savez(path, **arrays | {"model": np.array(json.dumps(header))})
    assert [layer.coded for layer in load_model(path).layers] == [None] * len(older.layers)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_evaluator_gives_the_same(executor, engine):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        model = random_model(rng, layers=3, kinds=("mixed",), channels=6, size=6)
        x = random_samples(rng, model)
        maps = run_layers(model, x, engine=engine)
        for index, sample in enumerate(x):
            for name, plain in run_plain(model, sample.tolist()).items():
                assert np.array_equal(maps[name][index], np.array(plain)), (name, index)
        maps[rounded_input(model)] = maps.pop(model.input.tensor)
        values = run_integer_onnx(integer_onnx(model), x, executor, maps)
        for name, expected in maps.items():
            assert np.array_equal(values[name].reshape(expected.shape), expected), name
