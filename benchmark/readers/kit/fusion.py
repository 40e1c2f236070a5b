"""Boxes that several readers drew of one finding become one box: LOBE's own rule, for releases without a consensus.

No release and no paper here defines it (weighted box fusion is usual, with other constants each time), so it is kept simple enough to say
in a sentence, and it does not depend on the order of rows in a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AGREE = 0.5  # IoU above which two boxes are of the same thing: the usual limit of a match


def fuse(boxes_xyxy: np.ndarray, readers: Sequence[str]) -> np.ndarray:
    """One box per finding: the mean corners of those boxes of different readers that overlap.

    Boxes are taken by reader, then by left, top, right and bottom edge. Each joins the group whose mean box it overlaps most, if that IoU
    is above `AGREE` and the reader has no box in the group yet, and otherwise begins a group; of groups with equal IoU the earlier one is
    taken. A box that one reader alone drew stays: nobody's finding is voted away.

    Args:
        boxes_xyxy: (n, 4) float64 of one image and class: left, top, right, bottom; all with an area.
        readers: n names.

    Returns:
        (m, 4) float64, m <= n, by left, top, right and bottom edge.
    """
    by_reader = sorted(range(len(readers)), key=lambda i: (readers[i], *boxes_xyxy[i]))
    groups: list[list[int]] = []
    for i in by_reader:
        free = [g for g in groups if readers[i] not in {readers[j] for j in g}]
        overlap = [_iou(boxes_xyxy[i], boxes_xyxy[g].mean(axis=0)) for g in free]
        if overlap and max(overlap) > AGREE:
            free[int(np.argmax(overlap))].append(i)
        else:
            groups.append([i])
    fused = sorted(boxes_xyxy[g].mean(axis=0).tolist() for g in groups)
    return np.array(fused, dtype=np.float64).reshape(-1, 4)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)
