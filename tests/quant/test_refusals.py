"""What the import refuses, each in one sentence that names the node and says what to do."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quant import import_onnx
from ref.errors import UserError
from tests.quant.graphs import Graph


def start(channels=4):
    return Graph(("N", 3, 8, 8)).conv(channels, 3)


REFUSED = {
    "operator": (lambda: start().add("Sin"),
                 r"Sin 'sin1' is an unsupported operator; replace it by supported ones \(.*\) or "
                 r"cut the network there"),
    "domain": (lambda: start().add("Relu", domain="com.microsoft"),
               r"Relu 'relu1' is of domain 'com.microsoft', outside the standard operators; export "
               r"the network with standard operators only"),
    "dynamic size": (lambda: Graph(("N", 3, "H", 8)).conv(4, 3),
                     r"axis 2 of input 'input' has dynamic size H; export the network with fixed "
                     r"sizes, only the batch may be dynamic"),
    "weights that are no numbers": (
        lambda: Graph(("N", 3, 8, 8)).add("Conv", np.full((4, 3, 1, 1), np.nan)),
        r"Conv 'conv0' has a weight that is not a number or infinite in 'c0'; train or export the "
        r"network again"),
    "one-dimensional convolution": (
        lambda: Graph(("N", 3, 8)).add("Conv", np.ones((4, 3, 3))),
        r"Conv 'conv0' is a 1-dimensional convolution; only two-dimensional ones are supported, "
        r"insert an axis of size 1"),
    "dilation": (lambda: Graph(("N", 3, 40, 40)).conv(4, 3, 3, dilations=[8, 8]),
                 r"Conv 'conv0' has dilations \[8, 8\], which spread its kernel to 17x17; at most "
                 r"15 rows and columns are supported"),
    "transposed convolution": (
        lambda: start().add("ConvTranspose", np.ones((4, 2, 2, 2))),
        r"ConvTranspose 'convtranspose1' is an unsupported operator; end the network before it and "
        r"enlarge its map on the host"),
    "unsupported activations": (
        lambda: start().add("HardSwish").conv(4, 4).add("HardSwish"),
        r"HardSwish 'hardswish1', HardSwish 'hardswish3' are unsupported operators; train with "
        r"ReLU, ReLU6 or leaky ReLU in its place, or, at the end of the network, cut it off and "
        r"leave it to the host"),
    "part of a map": (
        lambda: start().add("Slice", np.array([0]), np.array([2]), np.array([1])).conv(3, 2),
        r"Conv 'conv2' reads a part of a map \(Slice\); only slices that a Concat joins to "
        r"space-to-depth are supported"),
    "part of a map at the end": (
        lambda: start().add("Slice", np.array([0]), np.array([2]), np.array([1])),
        r"the output 'slice1_out' is padded, cut or transposed after its last layer; cut the "
        r"network before that"),
    "channels moved between groups": (
        lambda: start().add("Reshape", np.array([0, 2, 2, 8, 8])).add(
            "Transpose", perm=[0, 2, 1, 3, 4]).add("Reshape", np.array([0, 4, 8, 8])).conv(
                4, 4, group=2),
        r"Conv 'conv4' reads groups of channels that were moved; only dense and depthwise "
        r"convolutions can follow such a move"),
    "negative slope": (lambda: start().add("LeakyRelu", alpha=-0.5),
                       r"LeakyRelu 'leakyrelu1' has a negative slope \(-0\.5\); only slopes of 0 "
                       r"to 1 are supported"),
    "steep slope": (lambda: start().add("LeakyRelu", alpha=2.0),
                    r"LeakyRelu 'leakyrelu1' has a slope of 2; only slopes of 0 to 1 are "
                    r"supported"),
    "kernel of another size": (
        lambda: start().add("Conv", np.zeros((4, 4, 3, 3)), kernel_shape=[5, 5]),
        r"Conv 'conv1' has weights of shape \(4, 4, 3, 3\) for a kernel of \[5, 5\]; export it "
        r"again"),
    "no output channels": (
        lambda: start().add("Conv", np.zeros((0, 4, 3, 3))),
        r"Conv 'conv1' has weights of shape \(0, 4, 3, 3\) for a kernel of \[3, 3\]; export it "
        r"again"),
    "bias of another size": (
        lambda: start().add("Conv", np.zeros((4, 4, 1, 1)), np.zeros(3)),
        r"Conv 'conv1' has a bias of shape \(3,\) for 4 output channels; export it again"),
    "clip": (lambda: start().add("Clip", -1.0, 1.0),
             r"Clip 'clip1' clips to -1\.\.1; only a lower limit of 0 and a positive upper limit "
             r"are supported"),
    "average without its padding": (
        lambda: start().add("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        r"AveragePool 'averagepool1' has padding that its mean leaves out \(count_include_pad=0\); "
        r"set count_include_pad=1 or pool without padding"),
    "average beyond the map": (
        lambda: start().add("AveragePool", kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1),
        r"AveragePool 'averagepool1' has a last window beyond the map \(ceil_mode=1\); export it "
        r"with ceil_mode=0"),
    "softmax inside": (lambda: start().add("Softmax").conv(4, 4),
                       r"Softmax 'softmax1' is not at the end of the network; only a final softmax "
                       r"can be left to the host"),
    "transposed map": (lambda: start(8).add("Transpose", perm=[0, 2, 3, 1]).conv(4, 8),
                       r"Conv 'conv2' reads a transposed or reshaped map; export the network with "
                       r"channels first \(NCHW\)"),
    "transposed output": (lambda: start().add("Transpose", perm=[0, 2, 3, 1]),
                          r"the output 'transpose1_out' is padded, cut or transposed after its "
                          r"last layer; cut the network before that"),
    "constant within a channel": (
        lambda: start().add("Add", np.arange(8.0)),
        r"Add 'add1' has a constant that differs within a channel; only one number per channel is "
        r"supported"),
    "other padding": (
        lambda: start().add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), 1.0).conv(4, 4),
        r"Pad 'pad1' pads with something other than zero; only zero padding is supported"),
    "pad before a sum": (
        lambda: start().add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1])).norm(4),
        r"BatchNormalization 'batchnormalization2' follows a Pad; only a convolution or a pool can "
        r"take its padding"),
    "mixed batch": (lambda: start().add("Reshape", np.array([4, 64])),
                    r"Reshape 'reshape1' mixes the batch with other axes; keep the batch as the "
                    r"first axis"),
    "another batch": (lambda: start().add("Reshape", np.array([3, 64])),
                      r"Reshape 'reshape1' makes \[3, 64\] of the 256 values of a sample; keep the "
                      r"batch as the first axis, or export the network for a batch of one"),
    "mean over channels": (lambda: start().add("ReduceMean", axes=[1]),
                           r"ReduceMean 'reducemean1' reduces axes \[1\]; only rows and columns "
                           r"can be reduced"),
    "mean over everything": (lambda: start().add("ReduceMean", axes=[1, 2, 3]),
                             r"ReduceMean 'reducemean1' reduces axes \[1, 2, 3\]; only rows and "
                             r"columns can be reduced"),
    "several limits": (lambda: start().add("Max", np.arange(4.0).reshape(1, 4, 1, 1)),
                       r"Max 'max1' has 4 different limits; only one number for all values is "
                       r"supported"),
    "lower limit": (lambda: start().add("Min", 6.0),
                    r"Min 'min1' clips to -inf\.\.6; only a lower limit of 0 and a positive upper "
                    r"limit are supported"),
    "no layers": (lambda: Graph(("N", 3, 8, 8)).add("Identity"),
                  r"the network 'small' has no layers; give one with at least one convolution or "
                  r"fully connected layer"),
    "old operators": (lambda: Graph(("N", 3, 8, 8), opset=9).conv(4, 3),
                      r".*small\.onnx uses ONNX operator set 9; export it with operator set 11 or "
                      r"later"),
    "cast": (lambda: start().add("Cast", to=TensorProto.INT32).add("Cast", to=TensorProto.FLOAT),
             r"Cast 'cast1' turns data into integers; export the float network"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    make, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        import_onnx(make().save(tmp_path))
    assert re.fullmatch(sentence, str(error.value))


def refuse(model, tmp_path, sentence):
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    with pytest.raises(UserError) as error:
        import_onnx(path)
    assert re.fullmatch(sentence, str(error.value))


def two_branches(op, **attributes):
    """Two convolutions of 4 and 5 channels of one map, joined."""
    graph = start().add("Relu")
    source = graph.last
    names = []
    for channels in (4, 5):
        graph.last = source
        names.append(graph.conv(channels, 4).last)
    graph.nodes.append(helper.make_node(op, names, ["end"], name="end", **attributes))
    return graph


def test_branches_that_cannot_be_joined(tmp_path):
    refuse(two_branches("Concat", axis=0).model(), tmp_path, r".* do not fit together: .*")
    graph = start().add("Relu")
    graph.nodes.append(helper.make_node("Mul", [graph.last, "conv0_out"], ["end"], name="gate"))
    refuse(graph.model(), tmp_path,
           r"Mul 'gate' joins 2 branches \(relu1_out, conv0_out\); only Add and Concat can join "
           r"branches, replace it")
    graph = start()
    graph.nodes.append(helper.make_node("Concat", [graph.last, graph.last], ["end"], axis=2,
                                        name="tall"))
    refuse(graph.model(), tmp_path, r"Concat 'tall' joins along axis 2; only channels \(axis 1\) "
                                    r"can be joined")
    graph = start().add("GlobalAveragePool")
    graph.nodes.append(helper.make_node("Add", [graph.last, "conv0_out"], ["end"], name="spread"))
    refuse(graph.model(), tmp_path,
           r"Add 'spread' adds maps of shapes \(4, 1, 1\) and \(4, 8, 8\) or of different layouts; "
           r"only maps of one shape and layout can be added")
    graph = start()
    graph.nodes.append(helper.make_node(
        "Concat", [graph.last, graph.constant(np.ones((1, 4, 8, 8)))], ["end"], axis=1, name="end"))
    graph.shape = (1, 3, 8, 8)
    refuse(graph.model(), tmp_path, r"Concat 'end' joins data and a constant; only data can be "
                                    r"joined")


def test_softmax_in_a_branch(tmp_path):
    graph = start().add("Softmax")
    graph.nodes.append(helper.make_node("Add", [graph.last, "conv0_out"], ["end"], name="end"))
    refuse(graph.model(), tmp_path, r"Softmax 'softmax1' is not at the end of the network; .*")


def test_training_mode(tmp_path):
    graph = start().norm(4, training_mode=1)
    graph.nodes[-1].output.extend(["mean", "variance"])
    model = graph.model()
    model.graph.output[0].name = "batchnormalization1_out"
    refuse(model, tmp_path, r"BatchNormalization 'batchnormalization1' is in training mode; export "
                            r"the network for inference")


def test_output_that_is_read_again(tmp_path):
    model = start().add("Relu").model(outputs=2)
    refuse(model, tmp_path, r".*small\.onnx has 2 outputs \(conv0_out, relu1_out\); export a "
                            r"network with exactly one")


def test_two_inputs(tmp_path):
    model = start().model()
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    refuse(model, tmp_path, r".*small\.onnx has 2 inputs \(input, other\); export a network with "
                            r"exactly one")


def test_weights_from_data(tmp_path):
    graph = start()
    graph.nodes.append(helper.make_node("MatMul", [graph.last, graph.last], ["square"],
                                        name="square"))
    refuse(graph.model(), tmp_path, r"MatMul 'square' joins 2 branches .*")


def test_integer_input(tmp_path):
    model = start().model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    refuse(model, tmp_path, r"input 'input' is uint8, not float; export the network with a "
                            r"float input")


def test_subgraph(tmp_path):
    model = start().model()
    branch = helper.make_graph([helper.make_node("Relu", ["conv0_out"], ["b"])], "b", [],
                               [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])
    model.graph.node.append(helper.make_node("If", ["conv0_out"], ["end"], name="branch",
                                             then_branch=branch, else_branch=branch))
    model.graph.output[0].name = "end"
    refuse(model, tmp_path, r"If 'branch' holds a subgraph \((then|else)_branch\), which hardware "
                            r"cannot run; export the network without control flow")


def test_shapes_that_do_not_fit(tmp_path):
    graph = start().add("Flatten").add("Gemm", np.ones((100, 3)))
    refuse(graph.model(), tmp_path, r"(.*small\.onnx has tensors that do not fit together: .*|"
                                    r"Gemm 'gemm2' has weights for 100 features, .*); export it "
                                    r"again")
    refuse(Graph(("N", 3, 8, 8)).conv(4, 5).model(), tmp_path,
           r"(.*small\.onnx has tensors that do not fit together: .*|Conv 'conv0' has weights of "
           r"shape \(4, 5, 1, 1\) and 1 groups for 3 input channels); export it again")


@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, share):
    content = Graph(("N", 3, 8, 8)).conv(4, 3, 3).norm(4).model().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(UserError, match=re.escape(str(path))):
        import_onnx(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a network", b"\x00" * 64, b"text\n"])
def test_foreign_file(tmp_path, content):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        import_onnx(path)
    assert str(error.value) == (f"{path} is not an ONNX network or is damaged ({len(content)} "
                                "bytes); export it again")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        import_onnx(tmp_path / "none.onnx")
