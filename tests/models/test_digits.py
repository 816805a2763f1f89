"""The bundled network and its data: real accuracy, unfused BatchNorm, disjoint parts."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

FOLDER = Path(__file__).parents[2] / "models" / "digits"


@pytest.fixture(scope="module")
def parts():
    return {name: dict(np.load(FOLDER / f"{name}.npz")) for name in ("calib", "test")}


def test_float_accuracy_on_the_held_out_part(parts):
    data = parts["test"]
    session = onnxruntime.InferenceSession(FOLDER / "digits.onnx",
                                           providers=["CPUExecutionProvider"])
    real = (data["x"].astype(np.float32) - data["x_zero_point"]) * data["x_scale"]
    scores = session.run(None, {"image": real.astype(np.float32)})[0]
    right = int((scores.argmax(1) == data["y"]).sum())
    assert right == 448     # 99.56 % of 450, as the README beside the network says


def test_graph_is_what_a_real_export_looks_like():
    model = onnx.load(FOLDER / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == kinds.count("Relu") == 7
    assert model.ir_version <= 9 and model.opset_import[0].version == 17
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "N"
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            assert producers[node.input[0]].op_type == "Conv"
            assert node.name == producers[node.input[0]].name + "_bn"


def test_data_files(parts):
    assert len(parts["test"]["x"]) == 450 and len(parts["calib"]["x"]) == 256
    for data in parts.values():
        assert set(data) == {"x", "y", "x_scale", "x_zero_point"}
        assert data["x"].dtype == np.uint8 and data["x"].shape[1:] == (1, 8, 8)
        assert data["x"].max() <= 16
        assert data["x_scale"] == 1 / 16 and data["x_zero_point"] == 0
        assert set(data["y"].tolist()) == set(range(10))
    test_images = {image.tobytes() for image in parts["test"]["x"]}
    assert not test_images & {image.tobytes() for image in parts["calib"]["x"]}
