"""Wide inputs in two planes: the definition by hand, its bounds, its file and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from ref import (
    Input,
    Model,
    Tensor,
    UserError,
    check_model,
    input_bounds,
    load_model,
    quantize_input,
    save_model,
)
from tests.ref.random_models import random_model

X = np.array([-32768, -1000, -1, 0, 1, 7, 8, 1000, 32767], np.int16)


def wide_input(low_bits: int, multiplier: int = 1, shift: int = 0, signed: bool = True,
               dtype: str = "int16", bits: int = 8) -> Model:
    """A model without layers, of two channels of data."""
    tensor = Tensor("input", (4, 1, len(X)), bits, signed, np.ones(4))
    rule = Input("input", dtype, multiplier, shift, np.array(1.0), np.array(0.0), (2, 1, len(X)),
                 low_bits)
    return Model("wide", rule, {"input": tensor}, ())


def test_high_and_low_parts_alternate():
    x = np.stack([X, X[::-1]])[None, :, None]
    planes = quantize_input(wide_input(3), x)
    whole = np.clip(x.astype(int), -1024, 1023)
    assert planes.shape == (1, 4, 1, len(X))
    assert np.array_equal(planes[:, ::2], whole // 8) and np.array_equal(planes[:, 1::2], whole % 8)
    assert planes[0, :2, 0].T.tolist() == [[-128, 0], [-125, 0], [-1, 7], [0, 0], [0, 1], [0, 7],
                                           [1, 0], [125, 0], [127, 7]]


def test_rounding_comes_before_the_planes():
    planes = quantize_input(wide_input(7, 3, 2), np.stack([X, X])[None, :, None])
    whole = np.clip((X.astype(int) * 3 + 2) >> 2, -1 << 14, (1 << 14) - 1)
    assert np.array_equal(planes[0, 0, 0] * 128 + planes[0, 1, 0], whole)
    assert planes[0, 1].min() >= 0


@pytest.mark.parametrize(("dtype", "multiplier", "shift", "signed", "lo", "hi"), [
    ("int16", 1, 0, True, (-128, 0), (127, 7)),
    ("int8", 1, 0, True, (-16, 0), (15, 7)),
    ("uint8", 1, 0, False, (0, 0), (31, 7)),
    ("uint8", 1, 7, False, (0, 0), (0, 2)),         # one step of the high plane: 255 / 128 rounded
    ("uint16", 1, 0, False, (0, 0), (255, 7))])
def test_bounds_of_the_planes(dtype, multiplier, shift, signed, lo, hi):
    model = wide_input(3, multiplier, shift, signed, dtype)
    lows, highs = input_bounds(model.input, model.input_tensor)
    assert lows.tolist() == [*lo, *lo] and highs.tolist() == [*hi, *hi]
    limits = np.iinfo(dtype)
    x = np.linspace(limits.min, limits.max, len(X) * 1000).astype(dtype).reshape(-1, 1, 1, len(X))
    reached = quantize_input(model, np.repeat(x, 2, axis=1))
    assert np.array_equal(reached.min(axis=(0, 2, 3)), lows)
    assert np.array_equal(reached.max(axis=(0, 2, 3)), highs)


def plane_model() -> Model:
    """A random model whose input has two planes."""
    return next(model for seed in range(100)
                if (model := random_model(np.random.default_rng(seed))).input.low_bits == 2)


def test_the_file_keeps_the_planes(tmp_path):
    model = plane_model()
    save_model(model, tmp_path / "model.q.npz")
    assert load_model(tmp_path / "model.q.npz").input.low_bits == 2


@pytest.mark.parametrize(("low_bits", "sentence"), [
    (-1, "has a low plane of -1 bits, outside 0..7, or of more than its tensor's"),
    (8, "has a low plane of 8 bits, outside 0..7, or of more than its tensor's"),
    (0, "the input has samples of shape")])
def test_malformed_planes_are_named(low_bits, sentence):
    model = plane_model()
    with pytest.raises(UserError, match=sentence):
        check_model(replace(model, input=replace(model.input, low_bits=low_bits)))


def test_a_low_plane_fits_its_tensor_and_has_a_partner():
    narrow = wide_input(4, bits=4)
    with pytest.raises(UserError, match=r"low plane of 4 bits.*its tensor's 4 hold"):
        check_model(narrow)
    odd = replace(narrow.input_tensor, bits=8, shape=(3, 1, len(X)), scale=np.ones(3))
    with pytest.raises(UserError, match="two planes in 3 channels"):
        check_model(replace(narrow, tensors={"input": odd}))
