"""Networks whose own input is no map: the data file's samples keep that shape everywhere."""

import numpy as np
import onnx
import pytest

from quant import quantize
from ref import UserError, check_data, load_model, run, save_model
from ref.compare import compare
from ref.data import Data
from ref.onnx_integer import integer_onnx
from ref.oracles import run_float, run_integer_onnx
from tests.quant.graphs import Graph

RESHAPE = np.array([-1, 1, 6, 5])


@pytest.mark.parametrize(("shape", "first"), [
    ((30,), lambda graph: graph.add("Reshape", RESHAPE)),
    ((6, 5), lambda graph: graph.add("Unsqueeze", np.array([1]))),
    ((6, 5, 1), lambda graph: graph.add("Transpose", perm=[0, 3, 1, 2])),
    ((1, 6, 5), lambda graph: graph),
    ((1, 6, 5), None),
    ((2, 3, 5), None),
])
def test_samples_of_the_networks_own_shape(tmp_path, shape, first):
    """``first`` makes a map (1, 6, 5) of the input; None: fully connected layers read it flat."""
    graph = Graph(("N", *shape))
    if first is None:
        graph.add("Flatten").add("Gemm", graph.random.normal(size=(30, 4)))
    else:
        first(graph).conv(4, 1, 3, pads=[1, 1, 1, 1]).add("Relu").add("GlobalAveragePool")
        graph.add("Flatten").add("Gemm", graph.random.normal(size=(4, 3)))
    path = graph.save(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (9, *shape)).astype(np.uint8)
    data = Data(x, None, np.array(1 / 64), np.array(0.0))
    save_model(quantize(path, data), tmp_path / "small.q.npz")
    model = load_model(tmp_path / "small.q.npz")
    check_data(data, model)
    proto = integer_onnx(model)
    sizes = proto.graph.input[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["N", *shape]
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    scores = run(model, x)[:, :, 0, 0]
    assert np.array_equal(run_integer_onnx(proto, x)[model.output_tensor.name], scores)
    (real,) = run_float(path, data.real()).values()
    found = scores * model.output_tensor.scale
    assert ((real - found) ** 2).sum() < 1e-3 * (real ** 2).sum()
    result = compare(model, data, path)
    assert not any(result["mismatches"].values()) and result["layers"]
    with pytest.raises(UserError, match=r"samples have shape \(7,\)"):
        check_data(Data(x.reshape(9, -1)[:, :7], None, data.x_scale, data.x_zero_point), model)
