"""The model's file: what is saved comes back, and nothing else is accepted."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings

from ref import Conv2d, UserError, check_model, load_model, save_model
from ref.file import VERSION
from tests.ref.random_models import GRAPH_KINDS, models, random_model


def same(first, second):
    """Deep equality of models, arrays by value and type."""
    if isinstance(first, np.ndarray):
        return (isinstance(second, np.ndarray) and first.dtype == second.dtype
                and np.array_equal(first, second))
    if is_dataclass(first):
        return type(first) is type(second) and all(
            same(getattr(first, field.name), getattr(second, field.name))
            for field in fields(first))
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


@pytest.fixture
def model():
    """A model whose first layer is a convolution."""
    return replace(random_model(np.random.default_rng(0), layers=2, kinds=("dense",)),
                   metadata={"preset": "w8a8", "float": 97.5, "list": [1, None]})


@pytest.fixture
def parts(model, tmp_path):
    """A file's path, its arrays and its JSON header."""
    path = tmp_path / "net.q.npz"
    save_model(model, path)
    with np.load(path) as archive:
        arrays = dict(archive)
    return path, arrays, json.loads(str(arrays["model"]))


@settings(max_examples=30, deadline=None)
@given(case=models() | models(kinds=GRAPH_KINDS))
def test_round_trip(case, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round_trip.q.npz"
    save_model(case[0], path)
    assert same(load_model(path), case[0])


def test_metadata_and_bytes_are_kept(model, tmp_path):
    first, second = tmp_path / "a.q.npz", tmp_path / "b.q.npz"
    save_model(model, first)
    save_model(load_model(first), second)
    assert same(load_model(second), model)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.q.npz", "b.q.npz"]


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "net.q.npz"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        save_model(model, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_cut_is_refused(parts):
    path = parts[0]
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="quantized model"):
            load_model(path)


def test_flipped_bytes_never_pass_as_another_model(parts, model):
    path = parts[0]
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for position in rng.integers(0, len(content), 120):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            loaded = load_model(path)
        except UserError:
            refused += 1
        else:
            assert same(loaded, model)    # a byte of the archive that carries nothing
    assert refused > 60


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x93NUMPY\x01\x00"])
def test_foreign_bytes_are_refused(content, tmp_path):
    path = tmp_path / "net.q.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net\.q\.npz is not a quantized model"):
        load_model(path)


def test_a_foreign_archive_and_pickle_are_refused(tmp_path):
    path = tmp_path / "net.q.npz"
    np.savez(path, x=np.zeros(3))
    with pytest.raises(UserError, match="is not a quantized model"):
        load_model(path)
    np.savez(path, model=np.array([{"format": 1}], dtype=object))
    with pytest.raises(UserError, match="allow_pickle"):
        load_model(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.q.npz")


def test_a_newer_version_is_refused(parts):
    path, arrays, header = parts
    header["version"] = VERSION + 1
    arrays["model"] = np.array(json.dumps(header))
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=f"version {VERSION + 1}"):
        load_model(path)


def test_an_altered_number_is_refused(parts):
    path, arrays, _ = parts
    np.savez(path, **arrays | {"layer.0.bias": arrays["layer.0.bias"] + (1 << 20)})
    with pytest.raises(UserError, match=r"net\.q\.npz: layer 'layer0' claims accumulators"):
        load_model(path)


def test_every_missing_array_or_key_is_refused(parts):
    path, arrays, header = parts
    for name in arrays:
        np.savez(path, **{key: value for key, value in arrays.items() if key != name})
        with pytest.raises(UserError):
            load_model(path)
    for key in header:
        short = {name: value for name, value in header.items() if name != key}
        np.savez(path, **arrays | {"model": np.array(json.dumps(short))})
        with pytest.raises(UserError):
            load_model(path)


def changed(model, **values):
    """``model`` with fields of its first layer replaced, those of its parts by ``part__field``."""
    layer = model.layers[0]
    for name, value in values.items():
        part, _, field = name.partition("__")
        layer = replace(layer, **{part: replace(getattr(layer, part), **{field: value}) if field
                                  else value})
    return replace(model, layers=(layer, *model.layers[1:]))


def test_broken_rules_are_named(model):
    layer = model.layers[0]
    assert isinstance(layer, Conv2d)
    rule, proof = layer.requantization, layer.proof
    outputs = len(layer.weight)
    cases = [
        ({"weight": np.full_like(layer.weight, -128)}, "narrow range"),
        ({"weight": layer.weight.astype(np.int16)}, "not int8"),
        ({"weight_bits": 9}, "outside 2..8"),
        ({"groups": 1000}, "groups"),
        ({"pad_value": layer.pad_value + 1000}, "pad_value"),
        ({"inputs": ("nothing",)}, "nothing before it makes"),
        ({"output": "nothing"}, "unknown type"),
        ({"requantization__shift": 17}, "shift 17"),
        ({"requantization__multiplier": rule.multiplier - rule.multiplier}, "multiplier outside"),
        ({"requantization__multiplier": np.full(outputs, 1 << 15)}, "multiplier outside"),
        ({"requantization__bias": rule.bias.astype(np.float64)}, "bias of float64"),
        ({"requantization__lo": rule.hi + 1}, "clip bound|outside"),
        ({"requantization__bias": rule.bias + (1 << 20)}, "accumulators"),
        ({"proof__hi": proof.hi - 1}, "and they reach"),
        ({"proof__lo": proof.lo + 1}, "and they reach"),
        ({"proof__bits": proof.bits - 1}, "-bit accumulators"),
        ({"proof__channel": outputs}, "proves channel"),
        ({"proof__witness": np.zeros_like(proof.witness)}, "reaches"),
        ({"proof__witness": proof.witness[:, :0]}, "not a window"),
    ]
    check_model(model)
    for values, sentence in cases:
        with pytest.raises(UserError, match=f"layer 'layer0' .*({sentence})"):
            check_model(changed(model, **values))


def test_broken_tensors_and_inputs_are_named(model):
    source = model.input_tensor
    for tensor, sentence in [
        (replace(source, bits=9), "9 bits"), (replace(source, scale=np.array(-1.0)), "scale"),
        (replace(source, scale=np.array([np.nan])), "scale"),
        (replace(source, name="other"), "calls"), (replace(source, shape=(0, 1, 1)), "shape"),
    ]:
        with pytest.raises(UserError, match=f"tensor 'input' .*{sentence}"):
            check_model(replace(model, tensors=model.tensors | {"input": tensor}))
    for rule, sentence in [
        (replace(model.input, dtype="float32"), "data type"),
        (replace(model.input, multiplier=0), "multiplier"),
        (replace(model.input, shift=29), "shift"), (replace(model.input, tensor="x"), "unknown"),
    ]:
        with pytest.raises(UserError, match=f"the input .*{sentence}"):
            check_model(replace(model, input=rule))
    with pytest.raises(UserError, match="no layers"):
        check_model(replace(model, layers=()))
    with pytest.raises(UserError, match="shares its name"):
        check_model(replace(model, layers=model.layers + model.layers[:1]))
    with pytest.raises(UserError, match="no layer makes"):
        check_model(replace(model, layers=model.layers[:-1]))


def test_only_a_signed_result_that_is_requantized_may_be_wide():
    wide = random_model(np.random.default_rng(0), layers=1, result_bits=16)
    result, inner = wide.output_tensor, wide.tensors[wide.layers[0].output]

    def widened(model, tensor, **values):
        return replace(model, tensors=model.tensors | {tensor.name: replace(tensor, **values)})

    check_model(wide)
    maximum = random_model(np.random.default_rng(2), layers=1, kinds=("maximum",),
                           fully_connected=False)
    for model, sentence in [
        (widened(wide, result, bits=17), "17 bits, outside 2..16"),
        (widened(wide, result, signed=False), "16 bits, outside 2..8"),
        (widened(wide, inner, bits=16, signed=True), "16 bits, outside 2..8"),
        (widened(maximum, maximum.output_tensor, bits=16, signed=True), "16 bits, outside 2..8"),
    ]:
        with pytest.raises(UserError, match=f"has {sentence}"):
            check_model(model)
