"""The result of a comparison as tables on the terminal and as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def print_comparison(result: dict[str, Any]) -> None:
    """Print a result of `compare` as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("network", f"{result['metric']} on {result['samples']} samples")
    for kind in ("float", "integer"):
        value = result[kind]
        table.add_row(kind, _shown(value, result["metric"]))
    for kind, value in (result["top_5"] or {}).items():
        table.add_row(f"{kind}, top-5", _shown(value, "top-5"))
    console.print(table)
    table = Table("executor", "samples", "differing integers")
    for name, count in result["mismatches"].items():
        table.add_row(name, str(result["oracle_samples"][name]), str(count))
    console.print(table)
    for name, reason in result["skipped"].items():
        console.print(f"QLinearConv cannot express layer {name}: {reason}", soft_wrap=True)
    if result["layers"]:
        table = Table("layer", "SNR (dB)", "cosine", "largest error")
        for layer in result["layers"]:
            table.add_row(layer["name"], *(_number(layer[key]) for key in
                                           ("snr_db", "cosine", "max_error")))
        console.print(table)


def comparison_page(network: str, result: dict[str, Any]) -> str:
    """A self-contained HTML page of a result of `ref.compare.compare`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    finite = [layer["snr_db"] for layer in result["layers"] if layer["snr_db"] is not None]
    return environment.get_template("compare.html.j2").render(
        network=network, result=result, number=_number, shown=_shown,
        largest=max(finite, default=1.0))


def _shown(value: float | None, metric: str) -> str:
    """A value of a metric as text."""
    if value is None:
        return "not measured"
    return f"{value:.4f}" if metric == "mean IoU" else f"{value:.2f} %"


def _number(value: float | None) -> str:
    """A table cell."""
    return "-" if value is None else f"{value:.4g}"
