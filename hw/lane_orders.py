"""Channels in lanes of their kind: of engines of bytes whose odd lanes have AUSN weights.

Places of a word are in turn of a lane that multiplies by linear weights and of one that shifts and
adds. A map's channels lie in the order in which the lanes make them, so a layer's weights change
places with its results and with what it reads. Depthwise layers, pools and sums work in the lanes
of the channels that they read: all maps that such layers connect have one order.
"""

from dataclasses import dataclass, replace

import numpy as np

from ref.errors import UserError
from ref.model import Concat, Conv2d, Model, SpaceToDepth

from .code_maps import able_lanes, order_of
from .program import Placement
from .step import Lowering, Map, Step
from .term_product import AUSN, LINEAR_TERMS

#: Largest magnitude of a linear weight.
LARGEST = max(LINEAR_TERMS.sums)


@dataclass(frozen=True)
class OrderedMap(Map):
    """A map in an order: the channel of each place of a pixel, -1: none."""

    order: tuple[int, ...] = ()

    def placed(self, tensor: str, address: int, channels: int, transposed: bool, strips: int
               ) -> Placement:
        """Where it lies, in words of ``channels``."""
        return OrderedPlacement(tensor, address, self.shape, self.signed, channels, transposed,
                                strips, order=self.order)


@dataclass(frozen=True)
class OrderedPlacement(Placement):
    """Where a map in an order lies (`OrderedMap`)."""

    order: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """Words of a pixel."""
        return -(-len(self.order) * self.strips // self.channels)

    @property
    def places(self) -> Placement:
        """The same with a channel for each place."""
        return Placement(self.tensor, self.address, (len(self.order), *self.shape[1:]),
                         self.signed, self.channels, self.transposed, self.strips, self.within)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Integers (C, H, W) to memory words, uint8 [words, channels]; a spare place holds 0."""
        return self.places.pack(of_places(np.array(self.order), values))

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """Memory words, uint8 [words, channels], to integers (C, H, W) int64."""
        own = np.argsort(self.order, kind="stable")[-self.shape[0]:]
        return self.places.unpack(words)[own]


def of_places(order: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What each place gets of values (C, ...) for each channel; 0 where it has none."""
    return np.where((order >= 0).reshape(-1, *(1,) * (values.ndim - 1)), values[order], 0)


def in_lanes(lowering: Lowering, model: Model) -> Lowering:
    """The steps on maps in their `lane_orders`. Raises `UserError` where there are none."""
    orders = lane_orders(model)
    maps: dict[str, Map] = {name: OrderedMap(one.shape, one.signed, order=orders[name])
                            for name, one in lowering.maps.items()}
    return Lowering([in_order(step, orders) for step in lowering.steps], maps)


def in_order(step: Step, orders: dict[str, tuple[int, ...]]) -> Step:
    """A step on maps in these orders."""
    source, target = np.array(orders[step.sources[0]]), np.array(orders[step.target])
    weight = of_places(target, step.weight)
    if not step.depthwise:
        weight = of_places(source, weight.swapaxes(0, 1)).swapaxes(0, 1)
    negative = step.multiplier_negative
    return replace(
        step, shape=(len(source), *step.shape[1:]), result=(len(target), *step.result[1:]),
        weight=weight, pad=step.pad[np.maximum(source, 0)],      # of no channel: as of another one
        bias=of_places(target, step.bias), multiplier=of_places(target, step.multiplier),
        multiplier_negative=None if negative is None else of_places(target, negative),
        hi=of_places(target, step.hi))


def lane_orders(model: Model) -> dict[str, tuple[int, ...]]:
    """The order of channels of each map.

    Raises `UserError` naming a layer that moves channels to other lanes, or has weights in a
    channel that no lanes can make.
    """
    roots = {name: name for name in model.tensors}
    for layer in model.layers:
        if isinstance(layer, Concat | SpaceToDepth):
            raise UserError(f"layer {layer.name} moves channels to other lanes, and of this "
                            "engine every other one multiplies by AUSN weights; build one for "
                            "this network")
        if not isinstance(layer, Conv2d) or layer.depthwise:
            joined = {roots[name] for name in (*layer.inputs, layer.output)}
            roots = {name: min(joined) if root in joined else root for name, root in roots.items()}
    able = {root: (np.ones(model.tensors[root].shape[0], bool),) * 2 for root in roots.values()}
    for layer in model.layers:
        if not isinstance(layer, Conv2d):
            continue                             # weights of 1 and 2, or sums of few levels
        able[roots[layer.output]] = able_lanes(
            layer, able[roots[layer.output]], LARGEST, AUSN,
            ", and so are lanes of this engine; use the preset mixed4a8")
    orders = {root: trimmed(order_of(*both, half=1)) for root, both in able.items()}
    return {name: orders[root] for name, root in roots.items()}


def trimmed(order: tuple[int, ...]) -> tuple[int, ...]:
    """The order without spare places at its end, which would be multiplied in vain."""
    last = max(place for place, channel in enumerate(order) if channel >= 0)
    return order[:last + 1]


def takes_both_kinds(model: Model) -> bool:
    """Whether a model has mixed weights and lanes of both kinds can make all its layers."""
    if not any(isinstance(layer, Conv2d) and layer.coded is not None for layer in model.layers):
        return False
    try:
        lane_orders(model)
    except UserError:
        return False
    return True
