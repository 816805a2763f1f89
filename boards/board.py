"""A board: its device, the clock it is built for, and its Amaranth platform."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .device import Budget, Device


@dataclass(frozen=True)
class Board:
    """One board by name.

    ``clock_mhz`` is the default frequency of the domain "sync"; ``uart`` is the resource (name,
    number) of the host link, with subsignals ``rx`` (into the FPGA) and ``tx``.
    """

    name: str
    title: str
    device: Device
    clock_mhz: float
    platform_class: Callable[[float], Any]
    uart: tuple[str, int] = ("uart", 0)
    bitstream_suffix: str = ".bin"

    @property
    def family(self) -> str:
        """nextpnr's name of the device family: "ice40" or "ecp5"."""
        return self.device.family

    @property
    def budget(self) -> Budget:
        """What the device holds."""
        return self.device.budget

    def platform(self, clock_mhz: float | None = None) -> Any:
        """A new Amaranth platform (one for each build) whose ``clock_mhz`` is the exact frequency.

        Raises `ValueError` when the board's PLL cannot make ``clock_mhz`` within 0.5 %.
        """
        return self.platform_class(self.clock_mhz if clock_mhz is None else clock_mhz)
