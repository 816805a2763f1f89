"""The published integer SkyNets as models, from the evaluation data beside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ref import AccumulatorProof, Concat, Conv2d, Input, Layer, MaxPool2d, Model, Requantization
from ref.model import SpaceToDepth, Tensor, Window

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "skynet"
POOL = Window((2, 2), (2, 2))


def published_2020() -> tuple[Model, dict[str, np.ndarray]]:
    """The network with 6-bit weights, and its published maps by tensor name, (C, H, W) each.

    Lanes are padded to 32 channels; convolution n reads what the file calls its input.
    """
    weights = np.load(FOLDER / "published_w6a8.npz")
    maps = np.load(FOLDER / "published_w6a8_maps.npz")
    made: list[Layer] = []
    for number in range(1, 14):
        source = {1: "conv0", 3: "pool1", 5: "pool2", 7: "pool3", 11: "cat"}.get(
            number, f"conv{number - 1}")
        if number in (3, 5, 7):
            made.append(MaxPool2d(source, (f"conv{number - 1}",), source, POOL))
        if number == 11:
            made += [SpaceToDepth("reorg", ("conv6",), "reorg"),
                     Concat("cat", ("reorg", "conv10"), "cat")]
        name = f"conv{number}"
        result = maps[name].dtype
        made.append(_convolution(name, source, *(weights[f"{name}_{part}"] for part in "wbm"),
                                 17, 128 if number == 1 else 0, result))
    model = _model("skynet-2020", (32, 160, 320), made)
    shapes = {name: tensor.shape for name, tensor in model.tensors.items()}
    return model, {name: maps[name].reshape(shapes[name]) for name in maps}


def published_2021() -> tuple[Model, np.ndarray, np.ndarray]:
    """The network with 5-bit weights, its published input (3, H, W) and its output (14,).

    Of each of two anchors the output holds the five accumulators of the cell with the largest
    confidence, its column and its row.
    """
    weights = np.load(FOLDER / "published_w5a8.npz")
    image = np.fromfile(FOLDER / "published_w5a8_input_360x640x3_u8.bin", np.uint8)
    image = image.reshape(360, 640, 3)[weights["resize_rows"]][:, 1::2].transpose(2, 0, 1)
    output = np.fromfile(FOLDER / "published_w5a8_output_s16.bin", np.int16)
    made: list[Layer] = []
    source = "image"
    for block in range(6):
        if 1 <= block <= 3:
            made.append(MaxPool2d(f"pool{block}", (source,), f"pool{block}", POOL))
            source = f"pool{block}"
        if block == 5:
            made += [SpaceToDepth("reorg", ("L2_PW",), "reorg"),
                     Concat("cat", ("reorg", source), "cat")]
            source = "cat"
        for kind in ("DW", "PW"):
            name = f"L{block}_{kind}"
            made.append(_convolution(name, source, *(weights[f"{name}_{part}"] for part in "wbm"),
                                     16, 0, np.dtype(np.uint8)))
            source = name
    head = weights["L6_PW_w"]
    made.append(_convolution("L6_PW", source, head, np.zeros(len(head), np.int64),
                             np.ones(len(head), np.int64), 16, 0, np.dtype(np.int16)))
    return _model("skynet-2021", (3, 160, 320), made), image, output


def _convolution(name: str, source: str, weight: np.ndarray, bias: np.ndarray,
                 multiplier: np.ndarray, shift: int, padding: int, result: np.dtype) -> Conv2d:
    """One published layer; of a 16-bit result the accumulators are published, not the product."""
    depthwise = weight.shape[2] == 3
    limits = np.iinfo(result)
    accumulators = result == np.int16
    channels = np.ones(len(weight), np.int64)
    return Conv2d(
        name, (source,), name, weight, 6, Window(weight.shape[2:], (1, 1), (depthwise,) * 4),
        len(weight) if depthwise else 1,
        np.full(len(weight) if depthwise else weight.shape[1], padding),
        Requantization(bias.astype(np.int64),
                       channels << shift if accumulators else multiplier.astype(np.int64), shift,
                       channels * limits.min, channels * limits.max),
        AccumulatorProof(32, 0, 0, 0, np.zeros(1)))


def _model(name: str, shape: tuple[int, int, int], layers: list[Layer]) -> Model:
    """The layers with the shapes of their results; the data pass unchanged into the network."""
    source = layers[0].inputs[0]
    tensors = {source: Tensor(source, shape, 8, False, np.ones(()))}
    for layer in layers:
        channels, height, width = tensors[layer.inputs[0]].shape
        if isinstance(layer, Conv2d):
            channels = len(layer.weight)
        elif isinstance(layer, MaxPool2d):
            height, width = layer.window.output_size(height, width)
        elif isinstance(layer, SpaceToDepth):
            channels, height, width = 4 * channels, height // 2, width // 2
        else:
            channels = sum(tensors[name].shape[0] for name in layer.inputs)
        tensors[layer.output] = Tensor(layer.output, (channels, height, width), 8, False,
                                       np.ones(()))
    rule = Input(source, "uint8", 1, 0, np.ones(()), np.zeros(()), shape)
    return Model(name, rule, tensors, tuple(layers))
