"""The commands' results as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ref.model import Model


def print_model(model: Model, seconds: float, console: Console) -> None:
    """A table of the layers: kind, result, weight, activation and accumulator bits."""
    table = _table(f"{model.name}: {model.metadata['preset']}, {len(model.layers)} layers, "
                   f"{seconds:.1f} s", "layer", "kind", ">result", ">weight\nbits",
                   ">activation\nbits", ">accumulator\nbits")
    for layer in model.layers:
        result = model.tensors[layer.output]
        proof = getattr(layer, "proof", None)
        table.add_row(layer.name, type(layer).__name__, "x".join(map(str, result.shape)),
                      str(getattr(layer, "weight_bits", "")), str(result.bits),
                      "" if proof is None else str(proof.bits))
    console.print(table)


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


def _table(title: str, *headings: str) -> Table:
    """A table with columns of these headings; those that start with ``>`` align to the right."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for heading in headings:
        numeric = heading.startswith(">")
        table.add_column(heading.lstrip(">"), justify="right" if numeric else "left",
                         no_wrap=numeric)
    return table
