"""Where feature maps lie in activation memory, and which of them share words in turn."""

from dataclasses import replace

from ref.errors import UserError
from ref.model import Model

from .config import EngineConfig
from .program import Placement
from .step import Lowering


def place_maps(model: Model, config: EngineConfig, lowering: Lowering, first: int,
               transposed: bool) -> dict[str, Placement]:
    """An address for every map, from word ``first`` on, none overlapping while both are in use.

    First fit in order of creation. Raises `UserError` with the number of missing bytes.
    """
    used, strips = lives(model, lowering), strips_of(lowering)
    placements: dict[str, Placement] = {}

    def placed(name: str, address: int) -> Placement:
        return lowering.maps[name].placed(name, address, config.channels, transposed,
                                          strips.get(name, 1))

    for name, (born, _) in used.items():
        placement = placed(name, first)
        live = [placements[other] for other in placements if used[other][1] >= born]
        for other in sorted(live, key=lambda other: other.address):
            if placement.address + placement.words <= other.address:
                break
            placement = placement.at(max(placement.address, other.address + other.words))
        placements[name] = placement
    for name in lowering.maps:
        outermost, group = lowering.whole(name)
        if outermost != name:
            outer = placements[outermost]
            placements[name] = replace(placed(name, outer.address + group), within=outer.pitch)
    end = memory_words(placements)
    if end > config.activation_depth:
        raise UserError(
            f"the feature maps need {end * config.word_bytes} bytes and the board has "
            f"{config.activation_depth * config.word_bytes}: "
            f"{(end - config.activation_depth) * config.word_bytes} bytes too many; "
            "use a smaller input or a larger board")
    return placements


def lives(model: Model, lowering: Lowering) -> dict[str, tuple[int, int]]:
    """The first and the last step that use a map, for those not within another one.

    In order of the first; the network's input is there before step 0. A layer's result stays at
    least until the layer's turn has come, even if other layers made it in parts.
    """
    uses = {model.input.tensor: [-1]}
    index = -1
    for layer in model.layers:
        for step in lowering.steps[index + 1:]:
            if step.name != layer.name:
                break
            index += 1
            for name in (*step.sources, step.target):
                uses.setdefault(lowering.whole(name)[0], []).append(index)
        uses[lowering.whole(layer.output)[0]].append(index)
    return {name: (min(steps), max(steps)) for name, steps in uses.items()}


def strips_of(lowering: Lowering) -> dict[str, int]:
    """How many strips a word holds of each map that steps write or read."""
    strips = {name: step.strips for step in lowering.steps for name in step.sources}
    return strips | {step.target: 1 if step.gathers else step.strips for step in lowering.steps}


def memory_words(placements: dict[str, Placement]) -> int:
    """Words of activation memory in use, from word 0."""
    return max(placement.address + placement.words for placement in placements.values())
