"""Accumulator proofs of a whole model: how wide each sum can become, and on which input."""

from __future__ import annotations

from ref.bounds import accumulator_proof, layer_operands, propagate
from ref.check import check_model
from ref.model import AccumulatorProof, AveragePool2d, Conv2d, Model


def prove(model: Model) -> dict[str, AccumulatorProof]:
    """The proof of every convolution and average pool by layer name, computed anew.

    Bounds start at the input's data type and pass through every layer's clip. Raises
    `ref.errors.UserError` when the model breaks a rule or holds a proof that is not true.
    """
    check_model(model)
    bounds = propagate(model)
    proofs = {}
    for layer in model.layers:
        if isinstance(layer, Conv2d | AveragePool2d):
            source = layer.inputs[0]
            weight, bias, pad_value, groups = layer_operands(layer, len(bounds[source][0]))
            proofs[layer.name] = accumulator_proof(weight, bias, *bounds[source], pad_value, groups)
    return proofs
