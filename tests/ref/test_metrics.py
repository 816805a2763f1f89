"""Top-1, top-5 and mean IoU of results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ref import Data, logits
from ref.boxes import ANCHORS, box_iou, decode_boxes
from ref.compare import compare
from ref.metrics import find_metric, in_top
from ref.oracles import run_float
from tests.ref.random_models import random_model

SKYNET = Path(__file__).resolve().parents[3] / "shared" / "data" / "skynet" / "model.onnx"
TEST = Path(__file__).resolve().parents[2] / "build" / "data" / "skynet_test.npz"


def detector(rows: int = 3, columns: int = 4):
    """A model whose result has the channels of a detector's map, and its type of data."""
    model = random_model(np.random.default_rng(0), layers=1, fully_connected=False)
    result = replace(model.output_tensor, shape=(10, rows, columns))
    data = Data(np.zeros((2, 1, 1, 1), np.uint8), np.array([[0, 10, 0, 10], [5, 9, 3, 7]]),
                np.ones(()), np.zeros(()))
    return replace(model, tensors=model.tensors | {result.name: result}), data


def test_the_most_confident_cell_gives_the_box():
    """Against the formula of the source, one number at a time."""
    result = np.random.default_rng(1).normal(size=(1, 10, 20, 40))
    result[0, 9, 7, 31] = 9.0           # second anchor, row 7, column 31
    x, y, width, height = result[0, 5:9, 7, 31]
    centre = (1 / (1 + math.exp(-x)) + 31) / 40, (1 / (1 + math.exp(-y)) + 7) / 20
    size = math.exp(width) * ANCHORS[1, 0] / 40, math.exp(height) * ANCHORS[1, 1] / 20
    expected = [round((centre[0] - size[0] / 2) * 640), round((centre[0] + size[0] / 2) * 640),
                round((centre[1] - size[1] / 2) * 360), round((centre[1] + size[1] / 2) * 360)]
    assert decode_boxes(result).tolist() == [expected]


def test_the_first_of_equal_confidences_counts():
    result = np.zeros((1, 10, 2, 2))
    xmin, xmax, ymin, ymax = decode_boxes(result)[0]
    assert ((xmin + xmax) / 2, (ymin + ymax) / 2) == (160, 90)
    assert xmax - xmin == round(ANCHORS[0, 0] * 320)


def test_overlap():
    label = np.array([[10, 20, 10, 20]])
    for box, expected in ([10, 20, 10, 20], 1), ([15, 25, 10, 20], 50 / 150), (
            [20, 30, 10, 20], 0), ([30, 40, 30, 40], 0), ([12, 18, 12, 18], 0.36):
        assert box_iou(np.array([box]), label)[0] == pytest.approx(expected)
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4)))[0] == 0


def test_boxes_and_maps_of_ten_channels_have_mean_iou():
    model, data = detector()
    assert find_metric(data, model).name == "mean IoU"
    for y in (None, np.array([1, 0]), np.zeros((2, 3))):
        assert find_metric(replace(data, y=y), model) is None
    other = replace(model.output_tensor, shape=(9, 3, 4))
    assert find_metric(data, replace(model, tensors=model.tensors | {other.name: other})) is None


def test_top_five_breaks_ties_by_the_first_class():
    scores = np.array([[0, 9, 9, 9, 9, 9, 9, 1], [8, 7, 6, 5, 4, 3, 2, 1]])
    assert in_top(scores, np.array([5, 4]), 5).tolist() == [True, True]
    assert in_top(scores, np.array([6, 5]), 5).tolist() == [False, False]


def test_comparison_reports_top_five():
    """Labels of rank 3 count for top-5 alone; five classes have no top-5."""
    sizes = set()
    for seed in range(12):
        random = np.random.default_rng(seed)
        model = random_model(random, layers=0, bits=8, identity_input=True)
        result = replace(model.output_tensor, scale=np.array(1.0))
        model = replace(model, tensors=model.tensors | {result.name: result})
        limits = np.iinfo(model.input.dtype)
        x = random.integers(limits.min, limits.max, (9, *model.input_tensor.shape),
                            dtype=model.input.dtype)
        order = np.argsort(-logits(model, x), axis=1, kind="stable")
        classes = order.shape[1]
        data = Data(x, order[:, min(2, classes - 1)], model.input.x_scale,
                    model.input.x_zero_point)
        found = compare(model, data)
        assert found["top_5"] == ({"float": None, "integer": 100.0} if classes > 5 else None)
        assert found["integer"] == (0 if classes > 1 else 100)
        sizes.add(classes > 5)
    assert sizes == {True, False}


@pytest.mark.long
def test_float_network_reaches_its_published_iou():
    if not (SKYNET.exists() and TEST.exists()):
        pytest.skip("needs ../shared/data, expanded by python -m bench.accuracy skynet")
    with np.load(TEST) as file:
        real = (file["x"] - file["x_zero_point"]) * file["x_scale"]
        labels = file["y"]
    result = run_float(SKYNET, real.astype(np.float32))["head"]
    assert round(float(box_iou(decode_boxes(result), labels).mean()), 4) == 0.7345
