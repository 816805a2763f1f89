"""Networks as PyTorch exports them: imported like onnxruntime, quantized like the oracles.

Small ones with the operators of MobileNetV1 and V2, ResNet, AlexNet, VGG, YOLOv2, SkyNet,
SqueezeNet and the MLPerf Tiny networks, with random weights and normalizations.
"""

import warnings

import numpy as np
import pytest

from quant import import_onnx, quantize
from quant.evaluate import evaluate
from ref import Data
from ref.compare import compare
from tests.quant.graphs import run_float

torch = pytest.importorskip("torch", reason="only PyTorch writes its networks")
nn, F = torch.nn, torch.nn.functional


def block(inputs, outputs, kernel=3, stride=1, group=1, activation=nn.ReLU):
    """Convolution, normalization, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=group, bias=False),
        nn.BatchNorm2d(outputs), activation())


def separable(inputs, outputs, stride=1, activation=nn.ReLU6):
    """Depthwise, then pointwise."""
    return nn.Sequential(block(inputs, inputs, 3, stride, inputs, activation),
                         block(inputs, outputs, 1, activation=activation))


class Network(nn.Module):
    """Layers by name and what happens to the input ``x``."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.path = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.path(self, x)


def inverted(inputs):
    """An inverted residual."""
    return Network(lambda net, x: x + net.body(x), body=nn.Sequential(
        block(inputs, 2 * inputs, 1, activation=nn.ReLU6),
        block(2 * inputs, 2 * inputs, 3, 1, 2 * inputs, nn.ReLU6),
        nn.Conv2d(2 * inputs, inputs, 1, bias=False), nn.BatchNorm2d(inputs)))


def residual(inputs, outputs, stride):
    """A basic block of ResNet."""
    return Network(
        lambda net, x: F.relu(net.body(x) + net.short(x)),
        body=nn.Sequential(block(inputs, outputs, 3, stride),
                           nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
                           nn.BatchNorm2d(outputs)),
        short=nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)))


def reorg_view(x):
    """Space-to-depth as the YOLOv2 and SkyNet codes have it."""
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // 2, 2, width // 2, 2).transpose(3, 4).contiguous()
    x = x.view(batch, channels, height // 2 * (width // 2), 4).transpose(2, 3).contiguous()
    x = x.view(batch, channels, 4, height // 2, width // 2).transpose(1, 2).contiguous()
    return x.view(batch, 4 * channels, height // 2, width // 2)


def reorg_slices(x):
    """Space-to-depth as YOLOv5's focus."""
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]],
                     1)


def detector(reorg, activation):
    """A bypass into squares, joined with the deeper map; ends in a map."""
    return Network(
        lambda net, x: net.head(torch.cat([reorg(net.start(x)), net.deep(net.start(x))], 1)),
        start=nn.Sequential(separable(3, 6, activation=activation), nn.MaxPool2d(2)),
        deep=nn.Sequential(nn.MaxPool2d(2), separable(6, 8, activation=activation)),
        head=nn.Sequential(separable(32, 8, activation=activation), nn.Conv2d(8, 10, 1)))


def leaky():
    return nn.LeakyReLU(0.1, inplace=True)


def clamped(net, x):
    x = F.hardtanh(net.first(F.pad(x, (0, 1, 0, 1))), 0, 6)
    x = torch.clamp(net.second(F.pad(x, (1, 1, 1, 1))), min=0, max=4.0)
    return F.max_pool2d(F.leaky_relu(net.third(x), 0.2), 3, 2, 1).clamp(min=0).mean((2, 3))


NETWORKS = {
    "mobilenet": lambda: Network(
        lambda net, x: net.scores(net.drop(torch.flatten(net.body(x), 1))),
        body=nn.Sequential(block(3, 8, stride=2), separable(8, 12, 2), separable(12, 16),
                           nn.AdaptiveAvgPool2d(1)), drop=nn.Dropout(), scores=nn.Linear(16, 10)),
    "normalized": lambda: Network(
        lambda net, x: net.body((x - 0.45) / 0.22).mean(3).mean(2),
        body=nn.Sequential(block(3, 8, stride=2), inverted(8), inverted(8),
                           nn.Conv2d(8, 5, 1))),
    "resnet": lambda: Network(
        lambda net, x: net.scores(torch.flatten(net.body(x), 1)),
        body=nn.Sequential(block(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), residual(8, 8, 1),
                           residual(8, 12, 2), nn.AdaptiveAvgPool2d((1, 1))),
        scores=nn.Linear(12, 10)),
    "alexnet": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 11, 4, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(8, 8, 5, padding=2, groups=2), nn.ReLU(True), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(), nn.Linear(8, 16), nn.ReLU(True), nn.Linear(16, 5)),
    "vgg": lambda: Network(
        lambda net, x: net.scores(net.body(x).view(x.size(0), -1)),
        body=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True),
                           nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True),
                           nn.MaxPool2d(2)),
        scores=nn.Sequential(nn.Linear(512, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5))),
    "yolo": lambda: detector(reorg_view, leaky),
    "skynet": lambda: detector(reorg_view, nn.ReLU6),
    "focus": lambda: detector(reorg_slices, nn.ReLU6),
    "unshuffle": lambda: detector(lambda x: F.pixel_unshuffle(x, 2), nn.ReLU),
    "clamped": lambda: Network(clamped, first=nn.Conv2d(3, 8, 3), third=nn.Conv2d(8, 4, 1),
                               second=nn.Conv2d(8, 8, 3, groups=4)),
    "squeezenet": lambda: Network(
        lambda net, x: torch.flatten(F.adaptive_avg_pool2d(net.last(torch.cat(
            [net.one(net.start(x)), net.three(net.start(x))], 1)), (1, 1)), 1),
        start=nn.Sequential(block(3, 8, stride=2), nn.MaxPool2d(3, 2, ceil_mode=True)),
        one=block(8, 6, 1), three=block(8, 6), last=block(12, 5, 1)),
    "odd normalizations": lambda: nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.AvgPool2d(2),
        nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(6, 4)),
}

#: Those that the default suite has time for: together they have every operator.
QUICK = ("normalized", "resnet", "yolo", "focus", "clamped", "odd normalizations")


def random_network(name):
    """The network ready for export, its normalizations as after training."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(-0.5, 1.5)
            layer.bias.data.normal_(0, 0.3)
    return network


def check_export(name, path, **options):
    """Export, import, quantize; compare with onnxruntime and with the oracles."""
    random = np.random.default_rng(0)
    coarse = np.kron(random.integers(0, 256, (16, 3, 8, 8)), np.ones((4, 4)))
    x = (0.8 * coarse + 0.2 * random.integers(0, 256, coarse.shape)).astype(np.uint8)
    data = Data(x, None, np.array(1 / 64), np.array(128.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(random_network(name), (torch.zeros(1, 3, 32, 32),), str(path),
                          input_names=["input"], **options)
    network = import_onnx(path)
    expected = np.concatenate([run_float(str(path), one[None]) for one in data.real()[:4]])
    found = evaluate(network, data.real()[:4]).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    model = quantize(network, data)
    result = compare(model, data.head(2))
    assert not any(result["mismatches"].values()), result["first_mismatch"]


@pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in NETWORKS])
def test_exporter_that_traces(tmp_path, name):
    check_export(name, tmp_path / "network.onnx", dynamo=False, opset_version=17)


@pytest.mark.long
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", ["normalized", "yolo", "odd normalizations"])
def test_exporter_of_graphs(tmp_path, name, optimize):
    pytest.importorskip("onnxscript", reason="the newer exporter needs it")
    check_export(name, tmp_path / "network.onnx", dynamo=True, optimize=optimize,
                 external_data=False)
