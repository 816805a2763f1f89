"""The integer operator cases of the ONNX project's backend tests; the refused ones by reason."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.ref.onnx_nodes import OPERATORS, refusal, run_node


@pytest.fixture(scope="module")
def cases():
    """Cases whose graph is one node of `OPERATORS`."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():     # making the floating-point cases overflows on purpose
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    return [case for case in found
            if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPERATORS]


def element_types(case):
    """Names of the types of a case's inputs and results."""
    graph = case.model.graph
    return [onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            for value in (*graph.input, *graph.output)]


def as_array(value):
    """A stored tensor or array as numbers numpy computes with."""
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    array = np.asarray(array)
    return array if array.dtype.kind in "iuf" else array.astype(np.int64)


def limits_of(kind):
    """Bounds of an integer type by its ONNX name."""
    bits = int(kind.lstrip("UINT"))
    return (0, (1 << bits) - 1) if kind.startswith("U") else (-(1 << (bits - 1)),
                                                              (1 << (bits - 1)) - 1)


def test_published_cases(cases):
    ran = Counter()
    for case in cases:
        graph, kinds = case.model.graph, element_types(case)
        if refusal(graph.node[0], kinds) is not None:
            continue
        limits = limits_of(kinds[-1]) if "INT" in kinds[-1] else (0, 0)
        for inputs, (expected,) in case.data_sets:
            names = [value.name for value in graph.input]
            arrays = dict(zip(names, map(as_array, inputs), strict=True))
            result, expected = run_node(graph.node[0], arrays, limits), as_array(expected)
            assert result.shape == expected.shape, case.name
            assert np.array_equal(result, expected), case.name
            ran[graph.node[0].op_type] += 1
    assert set(ran) == set(OPERATORS) and ran.total() >= 25


def test_what_is_refused_and_why(cases):
    reasons = {refusal(case.model.graph.node[0], element_types(case)) for case in cases}
    assert reasons == {None, "floating-point numbers of 4 or 8 bits are not integers",
                       "scales per block: a tensor has one scale, or one per channel"}
