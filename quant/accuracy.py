"""What a quantized network is worth: float, only weights, only activations and all in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ref.data import Data, check_data
from ref.distance import Distance
from ref.errors import UserError
from ref.metrics import Metric, find_metric
from ref.model import Model
from ref.run import run

from .evaluate import evaluate
from .graph import FloatNetwork
from .twin import Twin


def accuracy_report(model: Model, data: Data, network: FloatNetwork | None = None
                    ) -> dict[str, Any]:
    """Accuracy on ``data``, quantized in parts and in full, beside the float network's.

    JSON values: ``network``; ``samples``; ``metric`` ("top-1" in percent or "mean IoU" of 0..1;
    null without labels that fit) and ``rows``: "float", the float network; "weights", the same with
    integer weights and biases; "activations", with integer activations instead; "full", integers
    only (this one alone when no ``network`` is given). A row has the ``value`` of the metric or
    null and, but for "float", ``gained``, ``lost`` and ``changed``, the samples that are judged
    better or worse than the float network's and those whose answer differs (null without metric),
    and ``snr_db`` of the network's result.
    Raises `UserError` for data or a network that do not fit the model.
    """
    check_data(data, model)
    metric = find_metric(data, model)
    tensor = model.output_tensor
    results = {"full": run(model, data.x) * tensor.scale.reshape(-1, 1, 1)}
    if network is not None:
        twin = Twin(model, network)
        real = twin.real_input(data)
        results = {
            "float": evaluate(twin.network, real),
            "weights": evaluate(twin.with_weights(), real),
            "activations": evaluate(twin.network, twin.rounded_input(data), twin.rounding()),
        } | results
    elif metric is None:
        raise UserError(f"{data.source} has no labels that fit the result of {model.name!r}, and "
                        "no float network is given; give labels y or the float network")
    exact = results.get("float")
    return {"network": model.name, "samples": len(data),
            "metric": None if metric is None else metric.name,
            "rows": {kind: _row(result, None if kind == "float" else exact, metric)
                     for kind, result in results.items()}}


def _row(result: np.ndarray, exact: np.ndarray | None, metric: Metric | None) -> dict[str, Any]:
    """A row of the report: a result (N, C, rows, columns) beside the float network's."""
    row: dict[str, Any] = {"value": None}
    if metric is not None:
        answers = metric.answers(result)
        values = metric.values(answers, metric.labels)
        row["value"] = metric.whole * float(values.mean())
    if exact is None:
        return row
    row |= {"gained": None, "lost": None, "changed": None}
    if metric is not None:
        wanted = metric.answers(exact)
        before = metric.values(wanted, metric.labels)
        row |= {"gained": int((values > before).sum()), "lost": int((values < before).sum()),
                "changed": int((answers != wanted).any(axis=1).sum())}
    distance = Distance()
    distance.add(exact, result)
    return row | {"snr_db": distance.snr_db}
