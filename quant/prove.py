"""Accumulator proofs of a whole model: how wide each sum can become, and on which input."""

from __future__ import annotations

from typing import Any

from ref.bounds import accumulator_proof, layer_operands, propagate, reach_bound
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


def prove_report(model: Model) -> dict[str, Any]:
    """The proofs as JSON values, each with the sum that its witness gives.

    ``network``; ``widest`` (bits); ``layers``: each ``name``, ``kind``, ``bits``, ``lo``, ``hi``,
    ``channel``, ``witness`` (the input window, nested lists), ``reached`` (its ``acc + bias``) and
    ``holds`` (``reached`` is the bound of larger magnitude). Raises like `prove`.
    """
    layers = {layer.name: layer for layer in model.layers
              if isinstance(layer, Conv2d | AveragePool2d)}
    entries = []
    for name, proof in prove(model).items():
        layer = layers[name]
        reached = reach_bound(layer, proof, model.tensors[layer.inputs[0]].shape[0])
        entries.append({
            "name": name, "kind": type(layer).__name__, "bits": proof.bits, "lo": proof.lo,
            "hi": proof.hi, "channel": proof.channel, "witness": proof.witness.tolist(),
            "reached": reached, "holds": reached == max(proof.hi, proof.lo, key=abs)})
    return {"network": model.name, "widest": max((entry["bits"] for entry in entries), default=0),
            "layers": entries}
