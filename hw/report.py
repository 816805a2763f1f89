"""The build report as one HTML page."""

from typing import Any


def render(report: dict[str, Any]) -> str:
    """The page for a report of `hw.build`."""
    return f"<pre>{report}</pre>"
