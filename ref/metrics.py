"""What a network's results are worth: top-1 and top-5 of class scores, mean IoU of boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .boxes import CHANNELS, box_iou, decode_boxes
from .data import Data, class_labels
from .model import Model


@dataclass(frozen=True, eq=False)
class Metric:
    """How the samples of some data are judged; ``labels`` are theirs.

    ``answers`` turns real results (N, C, rows, columns) into integers, one row per sample;
    ``values`` turns answers and their labels into numbers of 0..1, (N,). Their mean times ``whole``
    is the metric.
    """

    name: str                               # "top-1" or "mean IoU"
    whole: int                              # 100 where the metric is in percent, else 1
    labels: np.ndarray                      # (N, ...)
    answers: Callable[[np.ndarray], np.ndarray]
    values: Callable[[np.ndarray, np.ndarray], np.ndarray]


def find_metric(data: Data, model: Model) -> Metric | None:
    """The metric that the labels and the network's result allow; None when there is none.

    Class numbers and a vector of scores: top-1, the first of equal scores. Boxes (N, 4) and a map
    of `ref.boxes.CHANNELS` channels: mean IoU.
    """
    labels = class_labels(data, model)
    if labels is not None:
        return Metric("top-1", 100, labels, best_class, _is_equal)
    channels, *size = model.output_tensor.shape
    if (data.y is not None and data.y.shape[1:] == (4,) and channels == CHANNELS
            and size != [1, 1]):
        return Metric("mean IoU", 1, data.y, decode_boxes, box_iou)
    return None


def best_class(scores: np.ndarray) -> np.ndarray:
    """The class of the largest score, (N, 1), for scores of any shape (N, ...)."""
    return scores.reshape(len(scores), -1).argmax(axis=1)[:, None]


def in_top(scores: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Whether each label (N,) is among the ``count`` largest scores of (N, ...), bool (N,).

    Of equal scores the first classes count.
    """
    order = np.argsort(-scores.reshape(len(scores), -1), axis=1, kind="stable")
    return (order[:, :count] == labels[:, None]).any(axis=1)


def _is_equal(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where the class is the label's."""
    return (answers[:, 0] == labels).astype(np.float64)
