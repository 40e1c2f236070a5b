"""How well a similarity finds what belongs together: ranks of matches, precision and recall among the first K, in blocks of queries.

A query and a candidate match when their keys are equal: the class of an image and a report, or the normalised text of a pair, so that two
studies with the same words are no mistake. Equal similarities share their places: ranks, and what the first K hold, are expected values
over all orders of a tie, so a backbone that answers the same to everything scores what chance scores.

Formulas:
    *_mrr: (1 / Q) Σ_q 1 / r_q; expected rank r_q of the best match of query q, over the Q queries with a match
    *_hit@{k}: (1 / Q) Σ_q Pr(h_q ≥ 1); h_q matches among the first k, over all orders of equal similarities
    *_precision@{k}: (1 / Q) Σ_q E[h_q] / k; expected over those orders
    *_recall@{k}: (1 / Q) Σ_q E[h_q] / m_q; m_q matches among all candidates
    duplicate_rate: n_repeated / n; of n texts those that another repeats
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics.spec import MetricSpec

CUTOFFS = (1, 5, 10, 100)
TEXT_CUTOFFS = (1, 5, 10)
CLASS_CUTOFFS = (5, 10, 100)  # GLoRIA's table of retrieval on 5x200
BLOCK_BYTES = 256 * 2**20  # of similarities held at once

# rows of queries -> (b, M) similarities with all candidates
Similarities = Callable[[slice], np.ndarray]


@dataclass(frozen=True)
class Ranking:
    """What every query found; queries without any match hold NaN.

    Attributes:
        rank: (N,) expected rank of the best match, from 1.
        precision, hit, recall: K -> (N,): expected share of matches among the first K; chance that there is one; share of the query's
            matches that are there. K beyond the candidates counts them all.
        n_matches: (N,) int64.
    """

    rank: np.ndarray
    precision: dict[int, np.ndarray]
    hit: dict[int, np.ndarray]
    recall: dict[int, np.ndarray]
    n_matches: np.ndarray

    @property
    def reciprocal_rank(self) -> np.ndarray:
        """(N,) 1 / expected rank of the best match."""
        return 1 / self.rank


def rank_candidates(
    similarities: Similarities,
    query_key: np.ndarray,
    candidate_key: np.ndarray,
    cutoffs: Sequence[int] = CUTOFFS,
    own: np.ndarray | None = None,
) -> Ranking:
    """Ranks all candidates for every query, a block of queries at a time.

    Args:
        similarities: called with consecutive slices of the queries; (b, M) float, higher is nearer.
        query_key, candidate_key: (N,) and (M,) int64; equal keys match.
        own: (N,) the candidate that is taken out for each query (its own report), or -1; None keeps all.

    Raises:
        UsageError: no candidates, none but a query's own, or a block of another shape.
        TrainingError: a similarity is not a number.
    """
    n_queries, n_candidates = len(query_key), len(candidate_key)
    if not n_candidates or not n_queries:
        raise UsageError(f"Retrieval needs queries and candidates, found {n_queries} and {n_candidates}.")
    rows = max(BLOCK_BYTES // (8 * n_candidates), 1)
    blocks = []
    for start in range(0, n_queries, rows):
        part = slice(start, min(start + rows, n_queries))
        scores = np.array(similarities(part))
        if scores.shape != (part.stop - part.start, n_candidates):
            raise UsageError(f"Similarities of shape {scores.shape}, expected ({part.stop - part.start}, {n_candidates}).")
        if np.isnan(scores).any():
            raise TrainingError(f"{np.count_nonzero(np.isnan(scores)):,} similarities are not numbers.")
        matches = np.asarray(query_key)[part, None] == np.asarray(candidate_key)[None, :]
        n_left = np.full(len(scores), n_candidates)
        if own is not None:
            taken = np.flatnonzero(own[part] >= 0)
            scores[taken, own[part][taken]] = -np.inf
            matches[taken, own[part][taken]] = False
            n_left[taken] -= 1
            if not n_left.all():
                raise UsageError("Retrieval without a query's own report needs another one, and there is one report. Use more images.")
        blocks.append(_rank_block(scores, matches, n_left, tuple(cutoffs)))
    joined = {name: {k: np.concatenate([getattr(b, name)[k] for b in blocks]) for k in cutoffs} for name in ("precision", "hit", "recall")}
    return Ranking(np.concatenate([b.rank for b in blocks]), **joined, n_matches=np.concatenate([b.n_matches for b in blocks]))


def cosine(queries: np.ndarray, candidates: np.ndarray) -> Similarities:
    """Cosine of (N, D) and (M, D) embeddings, float32; a zero vector is similar to nothing (0).

    Raises:
        UsageError: the widths differ.
    """
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise UsageError(f"Embeddings of shapes {queries.shape} and {candidates.shape} have no cosine: the widths differ.")
    one, other = _unit(queries), _unit(candidates)
    return lambda part: one[part] @ other.T


def prior(query_key: np.ndarray, candidate_key: np.ndarray) -> Similarities:
    """The baseline that looks at no image: the same order for every query, candidates that match most queries first."""
    known, n = np.unique(query_key, return_counts=True)
    frequency = dict(zip(known.tolist(), n.tolist(), strict=True))
    scores = np.array([frequency.get(key, 0) for key in np.asarray(candidate_key).tolist()], np.float32)
    return lambda part: np.broadcast_to(scores, (part.stop - part.start, len(scores)))


def normalise_text(text: str) -> str:
    """Text as compared for identity: compatibility forms folded, case folded, blanks collapsed. Accents and punctuation stay."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """(M,) int64: equal for texts that are identical once normalised, in order of first appearance.

    Raises:
        UsageError: a text is empty; an empty report matches nothing and belongs in no retrieval set.
    """
    keys: dict[str, int] = {}
    found = [keys.setdefault(normalise_text(text), len(keys)) for text in texts]
    if "" in keys:
        raise UsageError(f"{found.count(keys['']):,} of {len(found):,} texts are empty, the first at place {found.index(keys['']) + 1:,}.")
    return np.array(found, np.int64)


def duplicate_rate(keys: Sequence[int] | np.ndarray) -> float:
    """Share of texts that another text repeats word for word."""
    n = Counter(np.asarray(keys).tolist())
    return sum(count for count in n.values() if count > 1) / len(keys)


def _rank_block(scores: np.ndarray, matches: np.ndarray, n_left: np.ndarray, cutoffs: tuple[int, ...]) -> Ranking:
    n_matches = matches.sum(axis=1)
    has_match = n_matches > 0
    best = np.where(matches, scores, -np.inf).max(axis=1)[:, None]
    equal = scores == best
    n_above = (scores > best).sum(axis=1)
    # The first of r matches in a tie of t comes, on average, at (t + 1) / (r + 1).
    rank = n_above + (equal.sum(axis=1) + 1) / ((equal & matches).sum(axis=1) + 1)
    precision, hit, recall = {}, {}, {}
    places = {k: np.minimum(k, n_left) for k in cutoffs}
    for (k, slots), edge in zip(places.items(), _values_at(scores, places.values()), strict=True):
        above, tied = scores > edge, scores == edge
        hits_above, hits_tied = (above & matches).sum(axis=1), (tied & matches).sum(axis=1)
        n_tied, left = tied.sum(axis=1), slots - above.sum(axis=1)
        expected = hits_above + left * hits_tied / n_tied
        precision[k] = np.where(has_match, expected / slots, np.nan)
        recall[k] = np.divide(expected, n_matches, out=np.full(len(scores), np.nan), where=has_match)
        missed = np.where(hits_above > 0, 0.0, _none_drawn(n_tied, hits_tied, left))
        hit[k] = np.where(has_match, 1 - missed, np.nan)
    return Ranking(np.where(has_match, rank, np.nan), precision, hit, recall, n_matches)


def _values_at(scores: np.ndarray, places: Iterable[np.ndarray]) -> list[np.ndarray]:
    """For each `slots` (b,) of `places`, (b, 1) the score at that place of each row, falling."""
    n, places = scores.shape[1], list(places)
    ordered = np.partition(scores, sorted({n - int(s) for slots in places for s in np.unique(slots)}), axis=1)
    return [np.take_along_axis(ordered, (n - slots)[:, None], axis=1) for slots in places]


def _none_drawn(n: np.ndarray, hits: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Chance that `drawn` of `n` hold none of the `hits`: C(n - hits, drawn) / C(n, drawn)."""
    possible = n - hits >= drawn
    n, hits, drawn = (np.where(possible, x, 0).astype(np.float64) for x in (n, hits, drawn))
    log = gammaln(n - hits + 1) + gammaln(n - drawn + 1) - gammaln(n - hits - drawn + 1) - gammaln(n + 1)
    return np.where(possible, np.where(hits == 0, 1.0, np.exp(log)), 0.0)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float32)
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: np.ndarray = np.divide(embeddings, length, out=np.zeros_like(embeddings), where=length > 0)
    return scaled


_WAYS = {"image_to_text": ", image to text", "text_to_image": ", text to image", "prior": " of the prior"}
_AMONG_FIRST = {"hit": "R@{k}", "precision": "P@{k}", "recall": "share of matches among the first {k}"}
TEXT_MATCHES, CLASS_MATCHES = "text_matches", "class_matches"
_NO_QUERY = "no query has a match"


def _rank_of_match(way: str, *needs: str) -> MetricSpec:
    return MetricSpec(name=f"{way}_mrr", title=f"MRR{_WAYS[way]}", target="reports", needs=needs, undefined=_NO_QUERY)


def _among_first(way: str, measure: str, cutoffs: Sequence[int], needs: str, of: str = "") -> MetricSpec:
    return MetricSpec(
        name=f"{of and of + '_'}{way}_{measure}@{{k}}",
        title=f"{of and of + ' '}{_AMONG_FIRST[measure]}{_WAYS[way]}",
        target="reports",
        values={k: str(k) for k in cutoffs},
        needs=(needs,),
        undefined=_NO_QUERY,
    )


METRICS = (
    _rank_of_match("image_to_text"),
    _rank_of_match("text_to_image", TEXT_MATCHES),
    _rank_of_match("prior"),
    *(_among_first(way, measure, TEXT_CUTOFFS, TEXT_MATCHES) for way in ("image_to_text", "text_to_image") for measure in _AMONG_FIRST),
    _among_first("prior", "hit", TEXT_CUTOFFS, TEXT_MATCHES),
    _among_first("image_to_text", "precision", CLASS_CUTOFFS, CLASS_MATCHES),
    _among_first("image_to_text", "precision", CLASS_CUTOFFS, CLASS_MATCHES, of="{class}"),
    _among_first("prior", "precision", CLASS_CUTOFFS, CLASS_MATCHES),
    MetricSpec(name="duplicate_rate", title="texts that another repeats word for word", target="reports", better="neither"),
)
