"""The numpy evaluator and the ONNX oracles against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from ref import run, run_layers
from ref.onnx_integer import integer_onnx, rounded_input
from ref.oracles import run_integer_onnx
from ref.plain import run_plain
from tests.ref.random_models import models


@settings(max_examples=60, deadline=None)
@given(models(channels=7, size=7))
def test_every_feature_map_equals_the_plain_definition(case):
    model, x = case
    maps = run_layers(model, x)
    assert set(maps) == set(model.tensors)
    for index, sample in enumerate(x):
        for name, plain in run_plain(model, sample.tolist()).items():
            assert maps[name].dtype == np.int64
            assert np.array_equal(maps[name][index], np.array(plain)), (name, index)
    assert np.array_equal(run(model, x), maps[model.layers[-1].output])


@pytest.mark.parametrize("executor", ["onnxruntime", "reference"])
@settings(max_examples=40, deadline=None)
@given(case=models())
def test_integer_onnx_gives_every_feature_map(executor, case):
    model, x = case
    maps = run_layers(model, x)
    maps[rounded_input(model)] = maps.pop(model.input.tensor)
    values = run_integer_onnx(integer_onnx(model), x, executor, maps)
    for name, expected in maps.items():
        assert np.array_equal(values[name].reshape(expected.shape), expected), name
    result = model.output_tensor
    assert values[result.name].dtype == (np.int8 if result.signed else np.uint8)
    assert values[result.name].shape == (len(x), result.shape[0])
