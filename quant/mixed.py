"""Mixed precision: a width for each layer's weights, so that all fit a budget with little noise."""

from __future__ import annotations

import re
from dataclasses import replace

from ref.data import Data
from ref.errors import UserError
from ref.model import Conv2d, Model
from ref.run import run

from .budget import budget_bits
from .evaluate import evaluate, real_input
from .graph import FloatConv, FloatNetwork
from .kept import kept_bits
from .presets import Settings
from .sensitivity import sensitivities

#: Calibration samples on which whole models are compared.
COMPARED_SAMPLES = 64


def settings_within_budget(network: FloatNetwork, data: Data, settings: Settings
                           ) -> list[Settings]:
    """Settings whose overrides give every convolution a width, all within ``settings.budget``.

    The noise of the scores is taken as the sum of what each layer's width alone makes
    (`quant.sensitivity`). From the fewest bits everywhere, the step to more bits of a layer that
    takes most noise away per bit is made again and again while it fits. Noise does not quite add
    up where it is large, so this is done for several fewest bits; with the highest that fits, an
    average of whole bits gives uniform weights. Which settings are best is for `closest` to find.

    Layers whose width an override of the user's fixes keep it, and so do those whose weights came
    as integers. Without a budget, or with nothing
    left to choose, the settings are returned as they are. Raises `UserError` where not even the
    fewest bits fit.
    """
    layers = [layer for layer in network.layers if isinstance(layer, FloatConv)]
    if settings.budget is None:
        return [settings]
    fixed = {layer.name: settings.of(layer.name).weight_bits for layer in layers if any(
        "weight_bits" in changes and re.fullmatch(pattern, layer.name)
        for pattern, changes in settings.overrides.items())}
    fixed |= {layer.name: kept_bits(layer) for layer in layers if layer.weight_step is not None}
    counts = {layer.name: layer.weight.size for layer in layers}
    allowed = budget_bits(settings.budget, sum(counts.values()))
    left = allowed - sum(counts[name] * bits for name, bits in fixed.items())
    widths = {layer.name: tuple(range(3 if settings.of(layer.name).weight_code == "ausn" else 2, 9))
              for layer in layers if layer.name not in fixed}
    least = allowed - left + sum(counts[name] * widths[name][0] for name in widths)
    if least > allowed:
        raise UserError(
            f"the budget {settings.budget} allows {allowed / 8:,.0f} bytes of weights, and those "
            f"of {network.name!r} take {least / 8:,.0f} with the fewest bits; allow more, or "
            "override fewer layers' weight_bits")
    if not widths:
        return [settings]
    noise = sensitivities(network, real_input(network, data), settings, widths)
    found = []
    for fewest in range(min(bits[0] for bits in widths.values()), 9):
        chosen = _allocate(noise, counts, {name: max(fewest, bits[0])
                                           for name, bits in widths.items()}, left)
        if chosen is not None and chosen not in found:
            found.append(chosen)
    return [_with_widths(settings, chosen) for chosen in found]


def closest(models: list[Model], network: FloatNetwork, data: Data) -> Model:
    """The model whose scores have the least squared error on some of the calibration data."""
    few = data.head(COMPARED_SAMPLES)
    wanted = evaluate(network, real_input(network, few)).reshape(len(few), -1)

    def error(model: Model) -> float:
        real = run(model, few.x) * model.output_tensor.scale.reshape(-1, 1, 1)
        return float(((real.reshape(wanted.shape) - wanted) ** 2).sum())

    return min(models, key=error)


def _allocate(noise: dict[str, dict[int, float]], counts: dict[str, int],
              widths: dict[str, int], left: float) -> dict[str, int] | None:
    """``widths``, raised while ``left`` bits hold all; None where they do not hold these.

    Each time the step, of any size, that takes most noise away per bit.
    """
    widths = dict(widths)
    left -= sum(counts[name] * bits for name, bits in widths.items())
    if left < 0:
        return None
    while True:
        steps = [((noise[name][bits] - noise[name][more]) / (counts[name] * (more - bits)),
                  name, more)
                 for name, bits in widths.items() for more in noise[name]
                 if more > bits and counts[name] * (more - bits) <= left]
        gain, name, more = max(steps, default=(0.0, "", 0))
        if gain <= 0:
            return widths
        left -= counts[name] * (more - widths[name])
        widths[name] = more


def _with_widths(settings: Settings, widths: dict[str, int]) -> Settings:
    """The settings with an override of each layer's ``weight_bits`` added."""
    overrides = dict(settings.overrides)
    for name, bits in widths.items():
        pattern = re.escape(name)
        overrides[pattern] = {**overrides.get(pattern, {}), "weight_bits": bits}
    return replace(settings, overrides=overrides)


def weight_bytes(model: Model) -> tuple[float, float]:
    """Bytes that a model's weights take at their layers' widths, and bits of the average weight."""
    layers = [layer for layer in model.layers if isinstance(layer, Conv2d)]
    bits = sum(layer.weight.size * layer.weight_bits for layer in layers)
    return bits / 8, bits / max(1, sum(layer.weight.size for layer in layers))
