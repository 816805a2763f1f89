"""What a quantization tells while it runs, and the bars that show it."""

from __future__ import annotations

import io

from rich.console import Console

from quant import quantize
from quant.progress import progress_bars
from tests.quant.networks import depthwise_network, image_data


def test_every_stage_counts_up_to_its_end(tmp_path):
    told: dict[str, list[tuple[int, int]]] = {}
    network = depthwise_network(tmp_path)
    quantize(network, image_data(), "w4a8",
             lambda stage, done, total: told.setdefault(stage, []).append((done, total)))
    assert list(told) == ["import", "calibrate", "balance", "quantize", "prove"]
    for steps in told.values():
        counts, totals = zip(*steps, strict=True)
        assert counts[0] == 0 and counts[-1] == totals[-1] and len(set(totals)) == 1
        assert list(counts) == sorted(set(counts))
    assert told["calibrate"][-1][1] == 2 * len(image_data())
    assert [done for done, _ in told["quantize"]] == list(range(len(network.layers) + 1))


def test_bars_of_a_terminal_name_stage_and_step():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bars(console) as tell:
        tell("quantize", 0, 28)
        tell("quantize", 5, 28)
    assert "quantize" in console.file.getvalue() and "5/28" in console.file.getvalue()


def test_a_file_gets_no_bars():
    console = Console(file=io.StringIO())
    with progress_bars(console) as tell:
        tell("quantize", 5, 28)
    assert not console.file.getvalue().strip()
