"""Image-text retrieval in both directions: ranks from similarities, one row of values per query. Nothing is trained.

Similarities come as callables over blocks of queries, so that a set of any size is ranked in bounded memory (`metrics.retrieval`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.metrics import retrieval
from benchmark.metrics.retrieval import CLASS_CUTOFFS, TEXT_CUTOFFS, Similarities


def score_text_matches(image_to_text: Similarities, text_to_image: Similarities, keys: np.ndarray) -> dict[str, np.ndarray]:
    """Both directions where a match is a report of the same words.

    Args:
        keys: (N,) int64 of each pair, equal for identical normalised reports (`retrieval.text_keys`).

    Returns:
        metric -> (N,) one value a query, in the order of the pairs; hits are the R@K of papers.
    """
    found: dict[str, np.ndarray] = {}
    for direction, similarities in (("image_to_text", image_to_text), ("text_to_image", text_to_image)):
        found |= _columns(
            direction, retrieval.rank_candidates(similarities, keys, keys, TEXT_CUTOFFS), TEXT_CUTOFFS, ("hit", "precision", "recall")
        )
    baseline = retrieval.rank_candidates(retrieval.prior(keys, keys), keys, keys, TEXT_CUTOFFS)
    return found | _columns("prior", baseline, TEXT_CUTOFFS, ("hit",))


def score_class_matches(
    image_to_text: Similarities, labels: np.ndarray, class_names: Sequence[str], own: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Precision among the first K reports, a report counting when it shares the image's class.

    Args:
        labels: (N,) int64 class of each pair.
        own: as `retrieval.rank_candidates`: the candidate taken out for each image; None keeps the image's own report.

    Returns:
        metric -> (N,); a class's columns hold NaN for images of other classes.
    """
    ranking = retrieval.rank_candidates(image_to_text, labels, labels, CLASS_CUTOFFS, own)
    found = _columns("image_to_text", ranking, CLASS_CUTOFFS, ("precision",))
    for label, name in enumerate(class_names):
        for k in CLASS_CUTOFFS:
            found[f"{name}_image_to_text_precision@{k}"] = np.where(labels == label, ranking.precision[k], np.nan)
    baseline = retrieval.rank_candidates(retrieval.prior(labels, labels), labels, labels, CLASS_CUTOFFS, own)
    return found | _columns("prior", baseline, CLASS_CUTOFFS, ("precision",))


def reranked(coarse: Similarities, fine: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> Similarities:
    """The coarse order with its first candidates put in order again.

    Args:
        coarse: (b, M) cosines.
        fine: query -> (candidates (k,) int64, their finer similarity (k,)).
    """

    def similarities(part: slice) -> np.ndarray:
        block = np.array(coarse(part), np.float64)
        for row, query in enumerate(range(part.start, part.stop)):
            candidates, values = fine[query]
            above = block[row].max() + 1  # reordered candidates stay before the rest
            block[row, candidates] = above + (values - values.min())
        return block

    return similarities


def first_candidates(similarities: Similarities, n_queries: int, k: int, rows: int = 256) -> np.ndarray:
    """(N, k) the candidates nearest to each query, in no order; the earlier of equals where not all fit."""
    found = []
    for start in range(0, n_queries, rows):
        block = similarities(slice(start, min(start + rows, n_queries)))
        found.append(np.argsort(-block, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)


def _columns(prefix: str, ranking: retrieval.Ranking, cutoffs: Sequence[int], families: Sequence[str]) -> dict[str, np.ndarray]:
    found = {f"{prefix}_mrr": ranking.reciprocal_rank}
    for family in families:
        found |= {f"{prefix}_{family}@{k}": getattr(ranking, family)[k] for k in cutoffs}
    return found
