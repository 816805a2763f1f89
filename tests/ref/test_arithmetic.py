"""Named arithmetics: held to the plain definition, and to networks that other teams published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref import Requantization, ops, run_layers
from ref.arithmetic import ARITHMETICS, Arithmetic
from ref.plain import requantize_plain
from tests.ref.published_skynet import FOLDER, published_2020, published_2021

needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason="the evaluation data are not there")


@given(st.integers(-2**20, 2**20), st.integers(-2**15, 2**15 - 1), st.integers(-2**15, 2**15 - 1),
       st.integers(1, 20), st.sampled_from([-100, 0]), st.sampled_from([None, 4, 16, 19]),
       st.booleans(), st.booleans())
def test_every_arithmetic_equals_the_plain_definition(accumulator, bias, multiplier, shift, lo,
                                                      saturation, rectifies, truncates):
    rule = Requantization(*(np.array([value]) for value in (bias, multiplier)), shift,
                          np.array([lo]), np.array([255]))
    arithmetic = Arithmetic(saturation, rectifies, truncates)
    result = ops.requantize(np.array([[accumulator]]), rule, arithmetic)
    assert int(result[0, 0]) == requantize_plain(accumulator, rule, 0, arithmetic)


@needs_data
def test_published_skynet_of_2020_in_every_feature_map():
    model, published = published_2020()
    maps = run_layers(model, published["conv0"][None], ARITHMETICS["skynet-2020"])
    for name, expected in published.items():
        assert np.array_equal(maps[name][0], expected), name
    assert len(published) == 19


@needs_data
def test_published_skynet_of_2021_in_its_result():
    model, image, output = published_2021()
    head = run_layers(model, image[None], ARITHMETICS["skynet-2021"])["L6_PW"][0]
    found = []
    for anchor in head.reshape(2, 5, *head.shape[1:]):
        row, column = np.unravel_index(anchor[4].argmax(), anchor[4].shape)
        found += [*anchor[:, row, column], column, row]
    assert np.array_equal(found, output)


@needs_data
def test_published_maps_need_their_arithmetic():
    model, published = published_2020()
    maps = run_layers(model, published["conv0"][None])
    assert not np.array_equal(maps["conv1"][0], published["conv1"])
