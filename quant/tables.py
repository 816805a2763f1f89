"""The commands' results as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ref.ausn import AusnCode
from ref.model import Conv2d, Model

from .mixed import weight_bytes

#: Names of the rows of an accuracy report.
ROWS = {"float": "float", "weights": "only weights in integers",
        "activations": "only activations in integers", "full": "integers"}
#: Channels written out one by one at most.
MOST_LISTED = 8


def print_model(model: Model, seconds: float, console: Console) -> None:
    """A table of the layers: kind, result, weight, activation and accumulator bits.

    Bits of an AUSN code are followed by those of its two fields, as 5 (2+2), and by how many
    channels have it where weights are mixed.
    """
    table = _table(f"{model.name}: {model.metadata['preset']}, {len(model.layers)} layers, "
                   f"{seconds:.1f} s", "layer", "kind", ">result", ">weight\nbits",
                   ">activation\nbits", ">accumulator\nbits")
    for layer in model.layers:
        result = model.tensors[layer.output]
        proof = getattr(layer, "proof", None)
        weight = ""
        if isinstance(layer, Conv2d):
            weight = _bits(layer.weight_bits, layer.weight_code)
            if layer.coded is not None:
                weight += f" in {layer.coded.sum()} of {len(layer.coded)}"
        code = getattr(getattr(layer, "requantization", layer), "code", None)
        table.add_row(layer.name, type(layer).__name__, "x".join(map(str, result.shape)),
                      weight,
                      _bits(result.bits if code is None else code.bits, code),
                      "" if proof is None else str(proof.bits))
    console.print(table)
    asked, rule = model.metadata["settings"]["input_bits"], model.input
    if rule.low_bits:
        console.print(f"input: {rule.dtype} in two planes, of {model.input_tensor.bits} and "
                      f"{rule.low_bits} bits")
    elif asked > model.input_tensor.bits:
        console.print(f"input: one plane of {model.input_tensor.bits} bits; --input-bits {asked} "
                      "would gain nothing with these data and first layers")
    settings = model.metadata["settings"]
    size, average = weight_bytes(model)
    console.print(f"weights: {size:,.0f} bytes, {average:.2f} bits each"
                  + (f" (budget {settings['budget']})" if settings["budget"] else ""))
    limit = settings["accumulator_bits"]
    for what, layers in ((f"accumulators wider than {limit} bits",
                          model.metadata["wider_accumulators"]),
                         ("channels with coarser weights, to fit",
                          model.metadata["narrowed_channels"])):
        if layers:
            console.print(f"{what}: {', '.join(f'{name} ({n})' for name, n in layers.items())}")


def print_inspection(report: dict[str, Any], console: Console) -> None:
    """Tables of a `quant.inspect.inspect`: the layers, their operators, and ranges if calibrated.
    """
    shape = "x".join(map(str, report["input"]["shape"]))
    console.print(f"{report['network']}: input {report['input']['name']!r} {shape}, opset "
                  f"{report['opset']}, {report['weights']:,} weights, {report['macs']:,} MACs",
                  highlight=False, soft_wrap=True)
    table = _table("", "layer", "kind", ">result", "kernel", ">weights", ">MACs")
    made_of: dict[str, list[str]] = {}
    for layer in report["layers"]:
        kernel = "" if layer["kernel"] is None else "x".join(map(str, layer["kernel"]))
        if kernel and layer["stride"] != [1, 1]:
            kernel += "/" + "x".join(map(str, layer["stride"]))
        kinds = " ".join(operator.split()[0] for operator in layer["operators"])
        made_of.setdefault(kinds, []).append(layer["name"])
        table.add_row(layer["name"], layer["kind"], "x".join(map(str, layer["shape"])), kernel,
                      f"{layer['weights']:,}" if layer["weights"] else "",
                      f"{layer['macs']:,}" if layer["macs"] else "")
    console.print(table)
    for kinds, names in made_of.items():
        where = names[0] if len(names) == 1 else f"{len(names)} layers"
        if kinds:
            console.print(f"{kinds}: {where}", highlight=False, soft_wrap=True)
    if report["samples"] is not None:
        table = _table(f"on {report['samples']} calibration samples", "layer", "activation",
                       ">lowest", ">highest", ">uniformity", "channels that never change",
                       "rows of zero weights")
        for layer in report["layers"]:
            table.add_row(layer["name"], layer["activation"] or "", f"{layer['lo']:.4g}",
                          f"{layer['hi']:.4g}", f"{layer['uniformity']:.3f}",
                          _listed(layer["dead"]), _listed(layer["zero_rows"]))
        console.print(table)
    if report["host"]:
        console.print(f"left to the host: {', '.join(report['host'])}", highlight=False,
                      soft_wrap=True)


def print_accuracy(report: dict[str, Any], console: Console) -> None:
    """A table of a `quant.accuracy.accuracy_report`."""
    metric = report["metric"] or "no labels"
    table = _table(f"{report['network']}: {metric} on {report['samples']:,} samples", "",
                   f">{metric}", ">gained", ">lost", ">changed", ">SNR")
    for kind, row in report["rows"].items():
        value = "" if row["value"] is None else (
            f"{row['value']:.2f} %" if metric == "top-1" else f"{row['value']:.4f}")
        paired = ["" if row.get(name) is None else str(row[name])
                  for name in ("gained", "lost", "changed")]
        table.add_row(ROWS[kind], value, *paired,
                      f"{row['snr_db']:.1f} dB" if row.get("snr_db") is not None else "")
    console.print(table)


def print_analysis(report: dict[str, Any], console: Console) -> None:
    """Tables of a `quant.analyze.analyze`: accuracy first, then the layers, then what stands out.
    """
    print_accuracy(report["accuracy"], console)
    bits = "/".join(map(str, report["bits"]))
    table = _table(f"signal over noise in dB on {report['samples']} samples: at the layer; at the "
                   "result for one layer alone, as it is and with fewer bits", "layer", ">here",
                   ">alone", f">weights\n{bits}", f">activations\n{bits}", ">uniformity",
                   ">accu-\nmulator")
    for layer in report["layers"]:
        sums = layer["accumulator"]
        tried = ["/".join("-" if value is None else f"{value:.0f}"
                          for value in layer["sensitivity"][kind].values())
                 for kind in ("weights", "activations")]
        table.add_row(
            layer["name"], _decibels(layer["cumulative"]["snr_db"]),
            _decibels(layer["isolated_db"]), *tried, _uniformity(layer),
            "" if sums is None else f"{sums['bits']} bits")
    console.print(table)
    table = _table("relative squared errors", "layer", ">weights:\nclipping", ">rounding",
                   ">activations:\nclipping", ">rounding", ">lowest", ">highest")
    for layer in report["layers"]:
        errors = [f"{layer[kind][error]:.1e}" if layer[kind] else ""
                  for kind in ("weight_errors", "activation_errors")
                  for error in ("clipping", "rounding")]
        table.add_row(layer["name"], *errors, f"{layer['range']['lo']:.4g}",
                      f"{layer['range']['hi']:.4g}")
    console.print(table)
    for sentence in report["findings"]:
        console.print(sentence, highlight=False)


def print_proofs(report: dict[str, Any], console: Console) -> None:
    """A table of a `quant.prove.prove_report`."""
    table = _table(f"{report['network']}: every accumulator within {report['widest']} bits",
                   "layer", ">bits", ">lowest", ">highest", ">channel", ">on its\nwitness",
                   "proved")
    for layer in report["layers"]:
        table.add_row(layer["name"], str(layer["bits"]), f"{layer['lo']:,}",
                      f"{layer['hi']:,}", str(layer["channel"]), f"{layer['reached']:,}",
                      "yes" if layer["holds"] else "NO")
    console.print(table)


def _decibels(value: float | None) -> str:
    """A signal over noise as a table cell."""
    return "" if value is None else f"{value:.1f}"


def _uniformity(layer: dict[str, Any]) -> str:
    """A result's uniformity, and what the transfer made of it."""
    if layer["balance"]:
        return (f"{layer['balance']['uniformity_before']:.3f} to "
                f"{layer['balance']['uniformity_after']:.3f}")
    value = layer["uniformity"]["activations"]
    return "" if value is None else f"{value:.3f}"


def _listed(channels: list[int]) -> str:
    """Channel numbers as text, many of them by their count."""
    if len(channels) > MOST_LISTED:
        return f"{len(channels)} channels"
    return " ".join(map(str, channels))


def _bits(bits: int, code: AusnCode | None) -> str:
    """Bits of a weight or an activation as `print_model` shows them."""
    return str(bits) if code is None else f"{bits} ({code.exponent}+{code.superposition})"


def _table(title: str, *headings: str) -> Table:
    """A table with columns of these headings; those that start with ``>`` align to the right."""
    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for heading in headings:
        numeric = heading.startswith(">")
        table.add_column(heading.lstrip(">"), justify="right" if numeric else "left",
                         no_wrap=numeric, overflow="fold")
    return table
