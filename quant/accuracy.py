"""What a quantized network is worth: float, only weights, only activations and all in integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from .progress import Tell, untold
from .twin import Twin

#: Samples evaluated at once.
BATCH = 64


def accuracy_report(model: Model, data: Data, network: FloatNetwork | None = None,
                    progress: Tell = untold) -> dict[str, Any]:
    """Accuracy on ``data``, quantized in parts and in full, beside the float network's.

    JSON values: ``network``; ``samples``; ``metric`` ("top-1" in percent or "mean IoU" of 0..1;
    null without labels that fit) and ``rows``: "float", the float network; "weights", the same with
    integer weights and biases; "activations", with integer activations instead; "full", integers
    only (this one alone when no ``network`` is given). A row has the ``value`` of the metric or
    null and, but for "float", ``gained``, ``lost`` and ``changed``, the samples that are judged
    better or worse than the float network's and those whose answer differs (null without metric),
    and ``snr_db`` of the network's result. ``progress`` hears of the stage "accuracy".
    Raises `UserError` for data or a network that do not fit the model.
    """
    check_data(data, model)
    metric = find_metric(data, model)
    if network is None and metric is None:
        raise UserError(f"{data.source} has no labels that fit the result of {model.name!r}, and "
                        "no float network is given; give labels y or the float network")
    parts: dict[str, list[np.ndarray]] = {}
    evaluators = _evaluators(model, network)
    starts = range(0, len(data), BATCH)
    progress("accuracy", 0, len(starts))
    for done, start in enumerate(starts, 1):
        part = replace(data, x=data.x[start:start + BATCH], y=None)
        for kind, evaluator in evaluators.items():
            parts.setdefault(kind, []).append(evaluator(part))
        progress("accuracy", done, len(starts))
    results = {kind: np.concatenate(values) for kind, values in parts.items()}
    exact = results.get("float")
    return {"network": model.name, "samples": len(data),
            "metric": None if metric is None else metric.name,
            "rows": {kind: _row(result, None if kind == "float" else exact, metric)
                     for kind, result in results.items()}}


def _evaluators(model: Model, network: FloatNetwork | None
                ) -> dict[str, Callable[[Data], np.ndarray]]:
    """What gives each row's real results (N, C, rows, columns) for some samples."""
    scale = model.output_tensor.scale.reshape(-1, 1, 1)
    full = {"full": lambda data: run(model, data.x) * scale}
    if network is None:
        return full
    twin = Twin(model, network)
    weights, rounding = twin.with_weights(), twin.rounding()
    return {"float": lambda data: evaluate(twin.network, twin.real_input(data)),
            "weights": lambda data: evaluate(weights, twin.real_input(data)),
            "activations": lambda data: evaluate(twin.network, twin.rounded_input(data), rounding),
            } | full


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
