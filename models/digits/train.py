"""Train the bundled digits classifier and export it as float ONNX with unfused BatchNormalization.

``python models/digits/train.py`` (needs ``pip install -e '.[train]'``) writes ``digits.onnx``,
``calib.npz`` and ``test.npz`` beside this file. One thread, fixed seeds and deterministic
algorithms: the same versions of torch and scikit-learn on the same kind of processor give the same
weights.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

#: (name, output channels, stride) of the depthwise-separable blocks after the stem.
BLOCKS = (("block1", 32, 1), ("block2", 48, 2), ("block3", 48, 1))
STEM_CHANNELS = 16
CLASSES = 10
PIXEL_SCALE = 1 / 16
CALIBRATION_SAMPLES = 256
EPOCHS = 80
SEED = 7


def batch_norm_block(channels_in: int, channels_out: int, kernel: int, stride: int,
                     groups: int) -> nn.Sequential:
    """Convolution without bias, BatchNorm and ReLU; "same" padding at stride 1."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups,
                  bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU())


class DigitsNet(nn.Module):
    """Stem, depthwise-separable blocks, global average pooling, one linear layer: 8x8x1 -> 10."""

    def __init__(self) -> None:
        """Build the layers; ``layers`` maps the exported node names to them, in order."""
        super().__init__()
        self.layers = nn.ModuleDict({"stem": batch_norm_block(1, STEM_CHANNELS, 3, 1, 1)})
        channels = STEM_CHANNELS
        for name, channels_out, stride in BLOCKS:
            self.layers[f"{name}_dw"] = batch_norm_block(channels, channels, 3, stride, channels)
            self.layers[f"{name}_pw"] = batch_norm_block(channels, channels_out, 1, 1, 1)
            channels = channels_out
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (N, 10) of images (N, 1, 8, 8) with values 0..1."""
        for layer in self.layers.values():
            x = layer(x)
        return self.classifier(x.mean(dim=(2, 3)))


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training x, test x (uint8, (N, 1, 8, 8), 0..16), training y, test y (int64).

    The test part is a stratified quarter, 450 samples, that training never sees.
    """
    digits = load_digits()
    x = digits.images.astype(np.uint8)[:, None]
    return train_test_split(x, digits.target.astype(np.int64), test_size=0.25, random_state=SEED,
                            stratify=digits.target)


def augment(x: torch.Tensor) -> torch.Tensor:
    """Rotate by up to 8 degrees, scale by up to 8 % and shift by up to half a pixel, per sample."""
    count = len(x)
    angle = (torch.rand(count) - 0.5) * 2 * np.deg2rad(8)
    size = 1 + (torch.rand(count) - 0.5) * 2 * 0.08
    shift = (torch.rand(count, 2) - 0.5) * 2 * (0.5 / 4)        # 8 pixels span -1..1
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    rows = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1),
                        torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = nn.functional.affine_grid(rows, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def train(x: np.ndarray, y: np.ndarray) -> DigitsNet:
    """The trained network, in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    net = DigitsNet()
    images, labels = torch.tensor(x, dtype=torch.float32) * PIXEL_SCALE, torch.tensor(y)
    batch = 64
    steps = len(images) // batch
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2,
                                                   total_steps=EPOCHS * steps)
    net.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))
        for step in range(steps):
            chosen = order[step * batch:(step + 1) * batch]
            loss = nn.functional.cross_entropy(net(augment(images[chosen])), labels[chosen],
                                               label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    return net.eval()


def export(net: DigitsNet) -> onnx.ModelProto:
    """The network as ONNX (opset 17), one node per layer, batch axis ``N``.

    torch's own exporter folds BatchNorm into the convolutions, so the graph is written here.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: torch.Tensor) -> str:
        constants.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    def node(op: str, name: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    tensor = "image"
    for name, layer in net.layers.items():
        conv, norm, _ = layer
        tensor = node("Conv", name, [tensor, constant(f"{name}.weight", conv.weight)],
                      kernel_shape=list(conv.kernel_size), strides=list(conv.stride),
                      pads=list(conv.padding) * 2, group=conv.groups)
        tensor = node("BatchNormalization", f"{name}_bn",
                      [tensor, constant(f"{name}_bn.scale", norm.weight),
                       constant(f"{name}_bn.bias", norm.bias),
                       constant(f"{name}_bn.mean", norm.running_mean),
                       constant(f"{name}_bn.variance", norm.running_var)], epsilon=norm.eps)
        tensor = node("Relu", f"{name}_relu", [tensor])
    tensor = node("GlobalAveragePool", "pool", [tensor])
    tensor = node("Flatten", "flatten", [tensor], axis=1)
    linear = net.classifier
    inputs = [tensor, constant("classifier.weight", linear.weight),
              constant("classifier.bias", linear.bias)]
    nodes.append(helper.make_node("Gemm", inputs, ["scores"], name="classifier", transB=1))
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="shiftwise models/digits/train.py")
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(model: onnx.ModelProto, x: np.ndarray, y: np.ndarray) -> float:
    """Percent of the samples (N, 1, 8, 8), 0..16, that onnxruntime labels right."""
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    real = x.astype(np.float32) * np.float32(PIXEL_SCALE)
    scores = session.run(None, {"image": real})[0]
    return 100 * float((scores.argmax(1) == y).mean())


def main() -> None:
    """Train, measure with onnxruntime, and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent,
                        help="directory for digits.onnx, calib.npz and test.npz")
    out = parser.parse_args().out
    x_train, x_test, y_train, y_test = load_data()
    model = export(train(x_train, y_train))
    print(f"float accuracy: training {accuracy(model, x_train, y_train):.2f} %, "
          f"held out {accuracy(model, x_test, y_test):.2f} % of {len(x_test)}")
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out / "digits.onnx")
    scale, zero = np.float32(PIXEL_SCALE), np.int32(0)
    chosen = np.random.default_rng(SEED).permutation(len(x_train))[:CALIBRATION_SAMPLES]
    np.savez_compressed(out / "calib.npz", x=x_train[chosen], y=y_train[chosen], x_scale=scale,
                        x_zero_point=zero)
    np.savez_compressed(out / "test.npz", x=x_test, y=y_test, x_scale=scale, x_zero_point=zero)


if __name__ == "__main__":
    main()
