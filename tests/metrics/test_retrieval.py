"""Promises of retrieval: brute force over every order of a tie, equal texts match, own reports out on request, and memory in blocks."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_precision, retrieval_reciprocal_rank

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics import retrieval as rtv


def rank(scores: np.ndarray, query_key, candidate_key, cutoffs=(1, 2, 3), own=None) -> rtv.Ranking:
    return rtv.rank_candidates(lambda part: scores[part], np.array(query_key), np.array(candidate_key), cutoffs, own)


def test_ranks_and_shares_agree_with_torchmetrics_on_random_cases() -> None:
    for seed in range(300):
        random = np.random.default_rng(seed)
        n, m = random.integers(1, 6), random.integers(3, 30)
        scores = (random.permutation(n * m).reshape(n, m) + 1) / (n * m + 1)  # torchmetrics passes over scores of 0
        queries, candidates = random.integers(0, 3, n), np.r_[0, 1, 2, random.integers(0, 3, m - 3)]
        found = rank(scores, queries, candidates)
        for q in range(n):
            p, t = torch.from_numpy(scores[q]), torch.from_numpy(candidates == queries[q])
            assert found.reciprocal_rank[q] == pytest.approx(float(retrieval_reciprocal_rank(p, t)))
            for k in (1, 2, 3):
                assert found.precision[k][q] == pytest.approx(float(retrieval_precision(p, t, top_k=k)))
                assert found.hit[k][q] == pytest.approx(float(retrieval_hit_rate(p, t, top_k=k)))


def test_one_report_alone_cannot_be_retrieved_without_itself() -> None:
    assert rank(np.ones((1, 1)), [0], [0]).rank.tolist() == [1]
    with pytest.raises(UsageError, match=r"there is one report\. Use more images"):
        rank(np.ones((1, 1)), [0], [0], own=np.array([0]))


def test_ties_give_the_mean_over_all_their_orders() -> None:
    for seed in range(12):
        random = np.random.default_rng(seed)
        scores, matches = random.integers(0, 3, (1, 6)).astype(float), random.random(6) < 0.4
        matches[random.integers(6)] = True
        found = rank(scores, [1], matches.astype(int))
        tallies = []
        for order in itertools.permutations(range(6)):
            listed = sorted(order, key=lambda i: -scores[0, i])  # stable: the permutation orders each tie
            right = matches[listed]
            first = int(np.argmax(right)) + 1
            tallies.append([first, *(right[:k].mean() for k in (1, 2, 3)), *(right[:k].any() for k in (1, 2, 3))])
        expected = np.mean(tallies, axis=0)
        assert found.rank[0] == pytest.approx(expected[0])
        assert [found.precision[k][0] for k in (1, 2, 3)] == pytest.approx(expected[1:4])
        assert [found.hit[k][0] for k in (1, 2, 3)] == pytest.approx(expected[4:7])
        assert [found.recall[k][0] for k in (1, 2, 3)] == pytest.approx(expected[1:4] * (1, 2, 3) / matches.sum())


def test_a_constant_similarity_scores_what_chance_scores() -> None:
    found = rank(np.zeros((4, 20)), [0, 1, 2, 3], np.arange(20), cutoffs=(1, 5))
    assert found.hit[1].mean() == pytest.approx(1 / 20)
    assert found.hit[5].mean() == pytest.approx(5 / 20)
    assert found.rank.tolist() == [10.5] * 4


def test_texts_equal_after_normalisation_match_each_other() -> None:
    keys = rtv.text_keys(["No effusion.", "Edema.", "no  EFFUSION.", "Œdème léger"])
    assert keys.tolist() == [0, 1, 0, 2]
    assert rtv.duplicate_rate(keys) == 0.5
    scores = np.array([[0.1, 0.2, 0.9, 0.0]])  # another study with the same words comes first
    assert rank(scores, keys[:1], keys).hit[1].tolist() == [1.0]


def test_an_own_report_can_be_taken_out() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.8, 0.3]])
    classes = [0, 1, 0]
    kept, removed = rank(scores, [0, 1], classes), rank(scores, [0, 1], classes, own=np.array([0, 1]))
    assert kept.precision[1].tolist() == [1.0, 1.0]
    assert removed.precision[1][0] == 0.0
    assert np.isnan(removed.precision[1][1])  # its only match was its own
    assert removed.n_matches.tolist() == [1, 0]


def test_the_prior_orders_by_how_often_a_candidate_is_right() -> None:
    queries, candidates = np.array([0, 0, 0, 1]), np.array([1, 0])
    found = rtv.rank_candidates(rtv.prior(queries, candidates), queries, candidates, cutoffs=(1,))
    assert found.hit[1].tolist() == [1, 1, 1, 0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    images, texts = random.normal(size=(40, 8)), random.normal(size=(40, 8))
    keys = random.integers(0, 30, 40)
    whole = rtv.rank_candidates(rtv.cosine(images, texts), keys, keys)
    monkeypatch.setattr(rtv, "BLOCK_BYTES", 8 * 40 * 7)
    parts = rtv.rank_candidates(rtv.cosine(images, texts), keys, keys)
    np.testing.assert_array_equal(whole.rank, parts.rank)
    np.testing.assert_array_equal(whole.hit[5], parts.hit[5])


def test_empty_texts_and_broken_similarities_are_refused() -> None:
    with pytest.raises(UsageError, match=r"1 of 2 texts are empty, the first at place 2"):
        rtv.text_keys(["edema", "  "])
    with pytest.raises(TrainingError, match="not numbers"):
        rank(np.array([[np.nan, 0.0]]), [0], [0, 1], cutoffs=(1,))
    with pytest.raises(UsageError, match="widths differ"):
        rtv.cosine(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(UsageError, match="Retrieval needs queries and candidates, found 1 and 0"):
        rank(np.zeros((1, 0)), [0], [], cutoffs=(1,))
    with pytest.raises(UsageError, match=r"Similarities of shape \(1, 3\), expected \(1, 2\)"):
        rank(np.zeros((1, 3)), [0], [0, 1], cutoffs=(1,))


MEASURED = """
import sys
import numpy as np
from benchmark.heads import retrieval
from benchmark.machine import peak_memory_bytes
from benchmark.metrics import scores
from benchmark.metrics.retrieval import cosine
from benchmark.metrics.statistics import to_columns
n = int(sys.argv[1])
random = np.random.default_rng(0)
images, texts = (random.normal(size=(n, 256)).astype(np.float32) for _ in range(2))
columns = retrieval.score_text_matches(cosine(images, texts), cosine(texts, images), np.arange(n))
found = scores.score_rows(tuple(columns), np.stack(list(columns.values()), axis=1), np.arange(n), n)
assert len(to_columns(found.statistics).columns["value"].values) > n and 0 < found.metrics["text_to_image_mrr"] < 1
print(peak_memory_bytes())
"""


def peak_bytes(n: int) -> int:
    """Largest resident memory of a fresh process that scores n images and n reports as a task does, in both directions."""
    return int(subprocess.run([sys.executable, "-c", MEASURED, str(n)], capture_output=True, text=True, check=True).stdout)


def test_memory_does_not_grow_with_the_square_of_the_set() -> None:
    # A table of 6,000 x 6,000 float64 similarities and masks held at once would add 0.4 GB; a block is bounded for every set.
    assert peak_bytes(6_000) - peak_bytes(500) < 1.2 * 2**30


@pytest.mark.slow
def test_twenty_thousand_by_twenty_thousand_stays_below_one_table_of_their_similarities(record_property) -> None:
    peak = peak_bytes(20_000)
    record_property("largest resident memory, GB", f"{peak / 1e9:.2f}")
    assert peak < 4 * 20_000**2
