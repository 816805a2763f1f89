"""Float calibration samples: onnxruntime's reader and arrays, on the grids their values lie on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant import quantize
from quant.reader import as_data, find_grid, read_samples
from ref import Data, UserError, logits
from ref.data import as_integers
from tests.quant.networks import depthwise_network, image_data


def make_reader(parts):
    """A reader as onnxruntime has it, of these feeds."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.parts = iter(parts)

        def get_next(self):
            return next(self.parts, None)

    return Reader()


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.float32)
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)
FEATURES = np.random.default_rng(1).integers(-31000, 5000, (20, 1, 40, 10))


@pytest.mark.parametrize(("values", "dtype", "scale", "zero"), [
    (PIXELS, "uint8", 1.0, 0.0),
    (PIXELS / 255, "uint8", 1 / 255, 0.0),
    (PIXELS / 127.5 - 1, "uint8", 1 / 127.5, 127.5),
    ((PIXELS / 255 - 0.5) / 0.25, "uint8", 4 / 255, 127.5),
    ((PIXELS - 128) / 100, "int8", 0.01, 0.0),
    ((PIXELS / 255 - MEAN) / DEVIATION, "uint8", (1 / 255 / DEVIATION).ravel(),
     (255 * MEAN).ravel()),
    ((FEATURES / 128).astype(np.float32), "int16", 1 / 128, 0.0),
    ((FEATURES * 0.0037).astype(np.float32), "int16", 0.0037, 0.0),
    (FEATURES.astype(np.float64), "int16", 1.0, 0.0),
])
def test_values_on_a_grid_are_kept_exactly(values, dtype, scale, zero):
    data = as_data(values)
    assert data.x.dtype == dtype
    assert np.allclose(data.x_scale, scale, rtol=1e-6)
    assert np.allclose(data.x_zero_point, zero, rtol=1e-6)
    assert np.abs(data.real(np.float64) - values).max() < 1e-6 * np.abs(values).max()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_grid_is_found(seed):
    """Distances of 1 .. 4 steps at random, any step and beginning, in float32."""
    random = np.random.default_rng(seed)
    index = np.cumsum(random.integers(1, 5, random.integers(16, 2000)))
    step = float(10 ** random.uniform(-4, 3))
    first = float(random.integers(-300, 300) + random.choice([0, 0.3]))
    values = np.float32(step) * (index + np.float32(first)).astype(np.float32)
    grid = find_grid(random.permutation(values))
    gaps = np.gcd.reduce(np.diff(index))        # all distances even: the grid is coarser
    assert grid is not None and grid.steps == (index[-1] - index[0]) // gaps
    assert np.isclose(grid.step, step * gaps, rtol=1e-4)


def test_values_on_no_grid_have_fifteen_bits():
    values = np.random.default_rng(0).normal(size=(20, 1, 9, 9))
    data = as_data(values)
    assert data.x.dtype == np.int16 and data.x_scale.shape == () and data.x_zero_point == 0
    assert np.abs(data.real(np.float64) - values).max() < np.abs(values).max() / 2 ** 14
    assert 16000 < np.abs(data.x).max() < 17000        # data beyond them still fit


@pytest.mark.parametrize("values", [np.zeros((5, 1, 3, 3)), np.full((5, 2), 7.5),
                                    np.array([[0.0, 1.0], [0.3, 0.7]])])
def test_too_few_values_show_no_grid(values):
    data = as_data(values)
    assert data.x.dtype == np.int16
    assert np.allclose(data.real(np.float64), values, rtol=1e-4, atol=1e-4)


def test_spare_steps_are_on_both_sides():
    data = as_data((PIXELS.clip(20, 220) / 255).astype(np.float32) - 0.2501)
    assert (data.x.min(), data.x.max()) == (27, 227)


@pytest.mark.parametrize("batch", [1, 8])
def test_quantizing_from_a_reader(tmp_path, batch):
    network, data = depthwise_network(tmp_path), image_data()
    real = data.real()
    reader = make_reader({network.input: real[start:start + batch]}
                         for start in range(0, len(real), batch))
    model, plain = quantize(network, reader), quantize(network, data)
    assert model.metadata["samples"] == len(data)
    x = as_integers(real, model)
    assert np.array_equal(x, data.x) and x.dtype == np.uint8
    assert np.array_equal(logits(model, x), logits(plain, data.x))
    array = quantize(network, real)
    assert np.array_equal(logits(array, x), logits(plain, data.x))


def test_integers_of_real_samples_are_rounded_and_clipped(tmp_path):
    data = Data(np.array([[[[9]]]], np.uint8), None, np.array(0.5), np.array(3.0))
    model = quantize(depthwise_network(tmp_path), image_data())
    scale, zero = model.input.x_scale, model.input.x_zero_point
    real = np.array([-1e9, 0, 10.4 * scale, 1e9]).reshape(1, 4, 1, 1)
    assert as_integers(real, model).ravel().tolist() == [0, round(float(zero)),
                                                         round(float(zero) + 10.4), 255]
    assert data.real().item() == 3.0


ONE = np.zeros((1, 3, 12, 10), np.float32)


@pytest.mark.parametrize(("parts", "sentence"), [
    ([], "gives no samples; make a new one"),
    ([{"input": ONE, "other": ONE}], "gives the inputs input, other, and the network 'small' has "
     "one, 'input'; give that one"),
    ([{"x": ONE}], "gives the inputs x, and"),
    ([{}], "gives the inputs none, and"),
    ([{"input": ONE}, {"input": ONE[..., :9]}], r"batch 1 has shape \(1, 3, 12, 9\) after "
     r"\(1, 3, 12, 10\); give \(samples, 3, 12, 10\) each time"),
    ([{"input": np.float32(3)}], r"batch 0 has shape \(\)"),
])
def test_bad_readers_are_refused(tmp_path, parts, sentence):
    with pytest.raises(UserError, match=sentence):
        read_samples(make_reader(parts), depthwise_network(tmp_path))


def test_a_reader_of_another_shape_is_refused(tmp_path):
    reader = make_reader([{"input": np.ones((2, 3, 12, 9), np.float32)}])
    with pytest.raises(UserError, match="the calibration reader's data's samples have shape"):
        quantize(depthwise_network(tmp_path), reader)


@pytest.mark.parametrize(("values", "sentence"), [
    (np.array([[1.0, np.nan]]), "not finite; mend or leave out"),
    (np.array([[1.0, -np.inf]]), "not finite"),
    (np.array([1.0, 2.0]), "float64 of shape"),
    (np.zeros((0, 3)), "whose first axis holds the samples"),
    (np.zeros((2, 3), bool), "bool of shape"),
    (np.zeros((2, 3), np.int64), "int64 of shape"),
])
def test_bad_arrays_are_refused(values, sentence):
    with pytest.raises(UserError, match=sentence):
        as_data(values)
