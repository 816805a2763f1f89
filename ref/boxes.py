"""Boxes of a detector that finds one object: decoding SkyNet's map of scores, and mean IoU.

The map has two anchors of five channels: x, y, width, height and confidence. The cell and anchor of
the largest confidence is the answer (the logistic function keeps the order, so it is not applied):
centre ``(sigmoid(x) + column) / columns``, width ``exp(width) * anchor / columns``, rows likewise.
Source: "SkyNet", MLSys 2020, and the contest it was made for (DAC-SDC), whose answers are whole
pixels: coordinates are rounded, half to even, and not clipped to the image.
"""

from __future__ import annotations

import numpy as np

#: Width and height of the anchors, in cells of the map.
ANCHORS = np.array([[1.4940052559648322, 2.3598481287086823],
                    [4.0113013115312155, 5.760873975661669]])
#: Width and height of the labelled images in pixels.
IMAGE = (640, 360)
#: Channels of the map: five for each anchor.
CHANNELS = 5 * len(ANCHORS)


def decode_boxes(result: np.ndarray) -> np.ndarray:
    """The best box of each sample: xmin, xmax, ymin, ymax in pixels of `IMAGE`, int64 (N, 4).

    ``result`` is real, (N, `CHANNELS`, rows, columns). Of equal confidences the first counts, in
    the order anchor, row, column.
    """
    samples, _, rows, columns = result.shape
    maps = result.astype(np.float64).reshape(samples, len(ANCHORS), 5, rows, columns)
    best = maps[:, :, 4].reshape(samples, -1).argmax(axis=1)
    anchor, row, column = np.unravel_index(best, (len(ANCHORS), rows, columns))
    values = maps[np.arange(samples), anchor, :4, row, column]
    cells = np.array([columns, rows])
    centre = (1 / (1 + np.exp(-values[:, :2])) + np.stack([column, row], axis=1)) / cells
    half = np.exp(values[:, 2:]) * ANCHORS[anchor] / cells / 2
    corners = np.stack([centre - half, centre + half], axis=2) * np.array(IMAGE)[:, None]
    return np.rint(corners.reshape(samples, 4)).astype(np.int64)


def box_iou(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes and labels, both (N, 4) as `decode_boxes` gives: (N,)."""
    boxes, labels = boxes.astype(np.float64), labels.astype(np.float64)
    size = np.minimum(boxes[:, 1::2], labels[:, 1::2]) - np.maximum(boxes[:, ::2], labels[:, ::2])
    shared = np.maximum(size, 0).prod(axis=1)
    areas = [(one[:, 1::2] - one[:, ::2]).prod(axis=1) for one in (boxes, labels)]
    union = areas[0] + areas[1] - shared
    return shared / np.where(union > 0, union, 1.0)
