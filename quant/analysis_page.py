"""The analysis of a quantized network as one HTML page: no script, network or other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .charts import Axis, Columns, Scatter, linear_axis, power_axis
from .tables import ROWS

#: Titles of the two things of a layer that can have fewer bits, and their class in the style sheet.
KINDS = {"weights": "Weights", "activations": "Activations"}
#: Shown where there is no value.
NONE = "\N{EN DASH}"


def render(report: dict[str, Any]) -> str:
    """The page for a report of `quant.analyze.analyze`; text from it is escaped."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"db": decibels, "metric": metric, "power": power}
    layers, accuracy = report["layers"], report["accuracy"]
    return environment.get_template("analysis.html.j2").render(
        report=report, layers=layers, accuracy=accuracy, names=ROWS,
        full=accuracy["rows"]["full"], exact=accuracy["rows"]["float"],
        widest=max((layer["accumulator"]["bits"] for layer in layers if layer["accumulator"]),
                   default=0),
        error=error_chart(layers), sensitivity=[
            (title, kind, sensitivity_chart(layers, kind, report["bits"]))
            for kind, title in KINDS.items()],
        clipping=clipping_chart(layers), uniformity=uniformity_chart(layers),
        accumulators=accumulator_chart(layers), ranges=range_chart(layers))


def decibels(value: float | None) -> str:
    """A signal over noise, or a dash where there is none."""
    return NONE if value is None else f"{value:.1f}"


def metric(value: float | None, name: str | None) -> str:
    """A value of a metric."""
    if value is None:
        return NONE
    return f"{value:.2f} %" if name == "top-1" else f"{value:.4f}"


def power(value: float | None) -> str:
    """A relative squared error."""
    if value is None:
        return NONE
    return f"{value:.1e}" if value else "0"


def error_chart(layers: list[dict[str, Any]]) -> Markup:
    """Signal over noise at each layer, and at the network's result for each layer alone."""
    cumulative = [layer["cumulative"]["snr_db"] for layer in layers]
    isolated = [layer["isolated_db"] for layer in layers]
    axis = linear_axis(_known(cumulative + isolated), "dB", zero=True)
    chart = Columns(len(layers), axis, "Signal over noise in dB at each layer of the integer "
                    "network, and at the result when one layer alone is quantized")
    chart.dots(isolated, "second")
    chart.line(cumulative, "first")
    chart.boxes([[*_heading(index, layer),
                  f"integer network, here: {decibels(layer['cumulative']['snr_db'])} dB, cosine "
                  f"{layer['cumulative']['cosine'] or 0:.4f}",
                  f"this layer alone, at the result: {decibels(layer['isolated_db'])} dB"]
                 for index, layer in enumerate(layers)])
    return chart.svg()


def sensitivity_chart(layers: list[dict[str, Any]], kind: str, bits: list[int]) -> Markup:
    """The result's signal over noise when one layer alone has so many bits."""
    tried = {str(width): [layer["sensitivity"][kind].get(str(width)) for layer in layers]
             for width in bits}
    axis = linear_axis(_known([value for values in tried.values() for value in values]), "dB",
                       zero=True)
    chart = Columns(len(layers), axis, f"Signal over noise of the result in dB when the {kind} of "
                    f"one layer alone have {', '.join(tried)} bits", height=230)
    ends = [_known([values[index] for values in tried.values()]) for index in range(len(layers))]
    chart.spans([(min(pair), max(pair)) if pair else None for pair in ends], "stem", 0.06)
    for width, values in tried.items():
        chart.dots(values, f"{kind} bits{width}", 5.5)
    chart.boxes([[*_heading(index, layer),
                  *([f"{width} bits: {decibels(values[index])} dB"
                     for width, values in tried.items()] if ends[index] else ["nothing to round"])]
                 for index, layer in enumerate(layers)])
    return chart.svg()


def clipping_chart(layers: list[dict[str, Any]]) -> Markup:
    """Clipping over rounding error of every layer's weights and results."""
    points = [(index, layer, kind, layer[f"{kind[:-1]}_errors"])
              for index, layer in enumerate(layers) for kind in KINDS
              if layer[f"{kind[:-1]}_errors"]]
    across = power_axis([errors["rounding"] for *_, errors in points],
                        "rounding error, relative to all squared values")
    up = power_axis([errors["clipping"] for *_, errors in points], "clipping error")
    chart = Scatter(across, up, "Clipping error over rounding error of each layer's weights and "
                    "results")
    chart.diagonal()
    for index, layer, kind, errors in points:
        chart.point(errors["rounding"], errors["clipping"], kind, [
            *_heading(index, layer), f"{kind}: rounding {power(errors['rounding'])}, clipping "
            f"{power(errors['clipping'])}"])
    return chart.svg()


def uniformity_chart(layers: list[dict[str, Any]]) -> Markup:
    """Uniformity of each layer's result, before and after the transfer of imbalance."""
    before = [layer["balance"]["uniformity_before"] if layer["balance"]
              else layer["uniformity"]["activations"] for layer in layers]
    after = [layer["balance"] and layer["balance"]["uniformity_after"] for layer in layers]
    axis = linear_axis(_known(before + after), "", zero=True)
    chart = Columns(len(layers), axis, "Uniformity of each layer's result before and after the "
                    "transfer", height=220)
    chart.spans([None if one is None or other is None else (one, other)
                 for one, other in zip(before, after, strict=True)], "stem", 0.06)
    chart.dots(before, "hollow")
    chart.dots(after, "first")
    chart.boxes([[*_heading(index, layer), *(
        [f"before {layer['balance']['uniformity_before']:.3f}, after "
         f"{layer['balance']['uniformity_after']:.3f}",
         f"exponents t {layer['balance']['t']:g}, u {layer['balance']['u']:g}, "
         f"v {layer['balance']['v']:g}"] if layer["balance"] else
        [f"{before[index] or 0:.3f}, nothing transferred"])]
        for index, layer in enumerate(layers)])
    return chart.svg()


def accumulator_chart(layers: list[dict[str, Any]]) -> Markup:
    """Bits that each accumulator needs for certain."""
    bits = [layer["accumulator"] and layer["accumulator"]["bits"] for layer in layers]
    wide = max(_known(bits), default=0) > 24
    axis = Axis(0, 32 if wide else 24, (0, 8, 16, 24, 32)[:5 if wide else 4], "bits")
    chart = Columns(len(layers), axis, "Bits of each layer's accumulator", height=200)
    chart.spans([value and (0, value) for value in bits], "column", 0.62)
    chart.mark(16)
    chart.boxes([[*_heading(index, layer), *(
        [f"{layer['accumulator']['bits']} bits: {layer['accumulator']['lo']:,} to "
         f"{layer['accumulator']['hi']:,}"] if layer["accumulator"] else ["no accumulator"])]
        for index, layer in enumerate(layers)])
    return chart.svg()


def range_chart(layers: list[dict[str, Any]]) -> Markup:
    """The values that occur in each result, relative to what its integers reach."""
    ranges = [layer["range"] for layer in layers]
    occurring = [(one["lo"] / one["largest"], one["hi"] / one["largest"]) for one in ranges]
    reachable = [(one["smallest"] / one["largest"], 1.0) for one in ranges]
    signed = any(low < 0 for low, _ in occurring + reachable)
    axis = Axis(-1.1 if signed else 0.0, 1.1, (-1.0, -0.5, 0.0, 0.5, 1.0)[0 if signed else 2:], "")
    chart = Columns(len(layers), axis, "Values that occur in each layer's result, relative to the "
                    "largest that its integers reach", height=200)
    chart.spans(reachable, "reachable", 0.62)
    chart.spans(occurring, "occurring", 0.3)
    chart.boxes([[*_heading(index, layer),
                  f"occurring: {one['lo']:.4g} to {one['hi']:.4g}",
                  f"integers reach: {one['smallest']:.4g} to {one['largest']:.4g}"]
                 for index, (layer, one) in enumerate(zip(layers, ranges, strict=True))])
    return chart.svg()


def _heading(index: int, layer: dict[str, Any]) -> list[str]:
    """What names a layer in a box."""
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, layer["shape"]))
    return [f"{index + 1}  {layer['name']}", f"{layer['kind']}, {shape}"]


def _known(values: list[Any]) -> list[float]:
    """Those that are not None."""
    return [value for value in values if value is not None]
