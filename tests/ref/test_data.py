"""Data files: integers with a scale, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ref import Data, UserError, check_data, load_data
from ref.data import class_labels
from tests.ref.random_models import random_model

X = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)


def saved(tmp_path, **arrays):
    """The path of a data file of these arrays."""
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_defaults(tmp_path):
    data = load_data(saved(tmp_path, x=X))
    assert data.y is None and data.x_scale == 1 and data.x_zero_point == 0
    assert np.array_equal(data.x, X) and data.x.dtype == np.uint8
    assert np.array_equal(data.real(), X.astype(np.float32)) and data.real().dtype == np.float32


def test_scale_and_zero_point_per_channel(tmp_path):
    scale, zero = np.array([0.5, 2, 0.25]), np.array([1, 2, 128])
    data = load_data(saved(tmp_path, x=X, y=np.array([1, 0]), x_scale=scale, x_zero_point=zero))
    for channel in range(3):
        expected = (X[:, channel].astype(np.float64) - zero[channel]) * scale[channel]
        assert np.array_equal(data.real(np.float64)[:, channel], expected)
    assert len(data) == 2 and len(data.head(1)) == 1 and data.head(None) is data
    assert data.head(1).y.tolist() == [1]
    with pytest.raises(UserError, match="at least one"):
        data.head(0)


def test_a_single_entry_is_one_number_for_all_channels(tmp_path):
    data = load_data(saved(tmp_path, x=X, x_scale=[0.5], x_zero_point=np.array([3])))
    assert data.x_scale.shape == data.x_zero_point.shape == ()
    assert data.x_scale == 0.5 and data.x_zero_point == 3


def test_class_labels():
    """Of a network of scores: whole numbers, as a row or a column."""
    scores = random_model(np.random.default_rng(0), fully_connected=True)
    assert scores.output_tensor.shape[1:] == (1, 1)
    data = Data(X, np.array([1, 0]), np.ones(()), np.zeros(()))
    for y in (data.y, data.y[:, None]):
        assert class_labels(replace(data, y=y), scores).tolist() == [1, 0]
    for y in (None, data.y.astype(float), np.eye(2, dtype=int)):
        assert class_labels(replace(data, y=y), scores) is None
    wide = replace(scores.output_tensor, shape=(2, 3, 1))
    ending = replace(scores, tensors=scores.tensors | {wide.name: wide})
    assert class_labels(data, ending) is None


def test_byte_order_of_the_file_does_not_matter(tmp_path):
    data = load_data(saved(tmp_path, x=X.astype(">i2")))
    assert data.x.dtype == np.int16 and data.x.dtype.isnative and np.array_equal(data.x, X)


@pytest.mark.parametrize(("arrays", "sentence"), [
    ({"y": np.zeros(2)}, "no array named x"),
    ({"x": X.astype(np.float32)}, "x_scale"),
    ({"x": X.astype(np.int64)}, "int64; store it as one of"),
    ({"x": X > 3}, "bool"),
    ({"x": X[0, 0, 0]}, "shape"),
    ({"x": X[:0]}, "at least|at least one|one at least"),
    ({"x": X, "y": np.zeros(3)}, "2 samples"),
    ({"x": X, "y": np.array(["a", "b"])}, "one number"),
    ({"x": X, "x_scale": np.array([1.0, 2.0])}, "x_scale must be"),
    ({"x": X, "x_scale": np.array(0.0)}, "larger than 0"),
    ({"x": X, "x_zero_point": np.array(np.inf)}, "x_zero_point must be one finite"),
    ({"x": X.astype(object)}, "allow_pickle"),
])
def test_other_files_are_refused(arrays, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        load_data(saved(tmp_path, **arrays))


def test_foreign_bytes_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(UserError, match="is not a data file"):
        load_data(path)
    np.save(tmp_path / "data.npy", X)
    with pytest.raises(UserError, match="is not a data file"):
        load_data(tmp_path / "data.npy")


def test_check_data_names_what_differs():
    model = random_model(np.random.default_rng(0), identity_input=True)
    model = replace(model, input=replace(model.input, x_scale=np.array(1 / 128)))
    x = np.zeros((2, *model.input_tensor.shape), model.input.dtype)
    good = Data(x, None, np.array(np.float32(1 / 128), np.float64), np.array(0.0))
    check_data(good, model)
    for data, sentence in [
        (replace(good, x=x[:, :, :, :0]), "samples have shape"),
        (replace(good, x=x.astype(np.int32)), "int32"),
        (replace(good, x_scale=np.array(1 / 127)), "x_scale"),
        (replace(good, x_zero_point=np.array(1.0)), "x_zero_point"),
    ]:
        with pytest.raises(UserError, match=sentence):
            check_data(data, model)
