"""Mixed weights: half of each channels coded, alike where they share lanes, at the least loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.ausn.code_product import WEIGHTS
from quant import Settings, import_onnx, quantize
from quant.graph import PASSING
from quant.weights import LinearCode, MixedCode, best_code, round_weights, weight_codes
from ref import AusnCode, Conv2d, UserError, run_layers
from ref.onnx_integer import integer_onnx
from ref.oracles import EXECUTORS, run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, depthwise_network, image_data
from tests.quant.test_branches import residual_graph, squares_graph
from tests.quant.test_planes import wide_data

MIXED = Settings(weight_bits=4, weight_code="mixed")


def convolutions(model):
    return {layer.name: layer for layer in model.layers if isinstance(layer, Conv2d)}


@pytest.mark.parametrize("rounding", ["greedy", "nearest"])
@pytest.mark.parametrize("channels", [8, 11])
def test_half_of_every_layer_is_coded(tmp_path, channels, rounding):
    network = depthwise_network(tmp_path, channels=channels)
    model = quantize(network, image_data(), Settings(weight_bits=4, weight_code="mixed",
                                                     rounding=rounding))
    for layer in convolutions(model).values():
        assert layer.coded.sum() == len(layer.weight) // 2
        magnitudes = np.abs(layer.weight.astype(int))
        assert layer.weight_code == AusnCode(2, 1)
        assert np.isin(magnitudes[layer.coded], layer.weight_code.levels).all()
        assert magnitudes[~layer.coded].max() <= 7


def test_layers_that_share_lanes_make_the_same_choice(tmp_path):
    model = quantize(import_onnx(depthwise_graph(channels=16).save(tmp_path)), image_data(), MIXED)
    stem, depth, point, second, _, scores = (layer.coded for layer in
                                             convolutions(model).values())
    assert np.array_equal(stem, depth) and np.array_equal(point, second)
    assert not np.array_equal(stem, point) and len(scores) == 5 and scores.sum() == 2


def test_residual_groups_make_the_same_choice(tmp_path):
    model = quantize(residual_graph().save(tmp_path), image_data(), MIXED)
    coded = [layer.coded for layer in convolutions(model).values()]
    assert np.array_equal(coded[0], coded[3]) and np.array_equal(coded[3], coded[6])
    assert np.array_equal(coded[1], coded[2]) and np.array_equal(coded[4], coded[5])


def test_channels_that_lose_least_are_coded(tmp_path):
    """Rows of levels of the code lose nothing with it, rows of even steps nothing without."""
    random = np.random.default_rng(0)
    levels, even = np.array([0, 1, 2, 3, 4, 6, 8, 12]), np.arange(8)
    coded = random.permutation(np.arange(16) < 8)
    weight = np.where(coded[:, None], *(random.choice(some, (16, 40)) for some in (levels, even)))
    weight[:, 0] = np.where(coded, 12, 7)
    weight = weight * random.choice([-1, 1], weight.shape) * random.uniform(0.5, 2, (16, 1))
    graph = Graph(("N", 40)).add("Gemm", weight.T, np.zeros(16))
    data = np.random.default_rng(1).integers(0, 256, (60, 40)).astype(np.uint8)
    layer, = quantize(graph.save(tmp_path), data, MIXED).layers
    assert np.array_equal(layer.coded, coded)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_exact_everywhere(tmp_path, executor):
    model = quantize(depthwise_network(tmp_path), image_data(),
                     Settings(weight_bits=4, weight_code="mixed", activation_bits=4,
                              activation_code="ausn", accumulator_bits=16,
                              overrides={"conv0": {"weight_bits": 8}, "conv3": {"weight_bits": 5},
                                         "conv5": {"weight_code": "linear"}}))
    made = list(convolutions(model).values())
    assert [layer.weight_bits for layer in made[:2]] == [8, 5]
    assert sum(layer.coded is None for layer in made) == 1
    x = image_data(seed=2).head(8).x
    maps = run_layers(model, x)
    del maps[model.input.tensor]
    values = run_integer_onnx(integer_onnx(model), x, executor, maps)
    for name, expected in maps.items():
        assert np.array_equal(values[name].reshape(expected.shape), expected), name


def test_inputs_in_two_planes(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3).add("Relu").conv(4, 8)
    model = quantize(graph.save(tmp_path), wide_data(11),
                     Settings(weight_code="mixed", input_bits=12))
    assert model.input.low_bits
    assert [layer.coded.sum() for layer in model.layers] == [4, 2]


def test_channels_that_change_lanes_are_refused(tmp_path):
    network = import_onnx(squares_graph("node").save(tmp_path))
    name = next(layer.name for layer in network.layers if isinstance(layer, PASSING[1:]))
    with pytest.raises(UserError, match=f"layer '{name}' moves channels to other lanes, which "
                                        "mixed weights do not allow; choose linear or AUSN"):
        quantize(network, image_data((3, 12, 8)), MIXED)


@pytest.mark.parametrize("changes", [{"weight_scale": "tensor"}, {"budget": "4bits"}])
def test_settings_that_mixed_weights_exclude(changes):
    with pytest.raises(UserError, match="mixed weights have one step per output channel and one "
                                        "width; leave out"):
        Settings(weight_code="mixed", **changes)


def test_other_bad_settings():
    with pytest.raises(UserError, match="AUSN weights of 2 bits do not exist"):
        Settings(weight_code="mixed", weight_bits=2)
    with pytest.raises(UserError, match="activation code 'mixed' is unknown; use one of linear, "):
        Settings(activation_code="mixed")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(0, 2 ** 32 - 1))
def test_each_row_is_rounded_by_its_own_code(coded, seed):
    coded, random = np.array(coded), np.random.default_rng(seed)
    code = MixedCode(coded, AusnCode(2, 1), LinearCode(4))
    weight, step = random.normal(size=(len(coded), 3, 2)), random.uniform(0.1, 1, len(coded))
    found = round_weights(weight, step, code)
    for row, single in enumerate(coded):
        own = code.ausn if single else code.linear
        assert np.array_equal(found[row], round_weights(weight[row:row + 1], step[row:row + 1],
                                                        own)[0])
    turned = np.asfortranarray(weight)
    assert np.array_equal(code.nearest(turned), code.nearest(weight))
    columns = weight[:, 0, 0].reshape(1, -1)
    assert np.array_equal(code.nearest(columns)[0], code.nearest(weight)[:, 0, 0])
    chosen = random.permutation(len(coded))[:2]
    assert np.array_equal(code.rows(chosen).nearest(weight[chosen]), code.nearest(weight)[chosen])


def test_coded_channels_have_the_split_of_their_lanes(tmp_path):
    """Powers of two would be nothing lost with three exponent bits, which no lanes have."""
    assert weight_codes(MIXED) == (WEIGHTS,)
    random = np.random.default_rng(0)
    weight = random.choice([0.0, 1, 2, 4, 8, 16, 32, 64], (16, 40))
    weight *= random.choice([-1, 1], weight.shape)
    graph = Graph(("N", 40)).add("Gemm", weight.T, np.zeros(16))
    data = np.random.default_rng(1).integers(0, 256, (60, 40)).astype(np.uint8)
    for code, split in (("ausn", AusnCode(3, 0)), ("mixed", WEIGHTS)):
        layer, = quantize(graph.save(tmp_path), data,
                          Settings(weight_bits=4, weight_code=code)).layers
        assert layer.weight_code == split


def test_the_best_code_is_that_of_the_least_loss():
    random = np.random.default_rng(0)
    weight, energy = random.normal(size=(5, 60)), np.ones((5, 60))
    codes = weight_codes(Settings(weight_bits=4, weight_code="ausn"))
    assert codes == (AusnCode(2, 1), AusnCode(3, 0))
    losses = [best_code((code,), weight, energy)[2].sum() for code in codes]
    assert best_code(codes, weight, energy)[2].sum() == min(losses)
