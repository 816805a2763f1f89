"""How far a quantization is: what `quant.quantize` tells, and the bars a command line shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

#: Hears the name of a stage, how many of its steps are done and how many it has; first with 0.
Tell = Callable[[str, int, int], None]


def untold(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def progress_bars(console: Console) -> Iterator[Tell]:
    """A function that draws one bar per stage on ``console``; they go when the context ends."""
    with Progress(TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(),
                  TimeElapsedColumn(), console=console, transient=True) as progress:
        bars = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield tell
