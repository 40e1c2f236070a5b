"""The nearest training images vote as DINO's evaluation has it, finding by finding, and an unknown label has no vote."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.cards import POOLED, Switches
from benchmark.errors import TrainingError
from benchmark.heads.base import HeadRequest, Targets
from benchmark.heads.nearest_neighbour import build
from benchmark.heads.networks import nearest_neighbour

D, C = 6, 3


def head_with(embeddings: np.ndarray, labels: np.ndarray):
    head = build(HeadRequest({32: D}, C, 64, Switches(), embed_dim=D))
    head.train()
    outputs = head({POOLED: torch.tensor(embeddings, dtype=torch.float32)[:, :, None, None]})
    head.learn_at_once(outputs, Targets(labels=torch.tensor(labels, dtype=torch.float32)))
    return head.eval()


def asked(head, embeddings: np.ndarray) -> np.ndarray:
    return head.predict(head({POOLED: torch.tensor(embeddings, dtype=torch.float32)[:, :, None, None]})).numpy()


def by_hand(kept: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """In NumPy, image by image and finding by finding."""
    found = np.full((len(queries), labels.shape[1]), 0.5)
    for i, query in enumerate(queries):
        cosines = [float(query @ one / np.linalg.norm(query) / np.linalg.norm(one)) for one in kept]
        nearest = sorted(range(len(kept)), key=lambda j: -cosines[j])[:k]
        for c in range(labels.shape[1]):
            votes = [(np.exp(cosines[j] / temperature), labels[j, c]) for j in nearest if labels[j, c] >= 0]
            if votes:
                found[i, c] = sum(w * y for w, y in votes) / sum(w for w, _ in votes)
    return found


def test_votes_are_those_of_the_twenty_nearest_weighted_by_their_cosine():
    rng = np.random.default_rng(0)
    kept, labels = 3 + rng.normal(size=(50, D)), rng.integers(-1, 2, size=(50, C))
    queries = 3 + rng.normal(size=(7, D))  # all near to each other: the last neighbour's vote counts
    found = asked(head_with(kept, labels), queries)
    np.testing.assert_allclose(found, by_hand(kept, labels, queries, 20, 0.07), atol=1e-5)
    assert np.abs(found - by_hand(kept, labels, queries, 19, 0.07)).max() > 1e-3


def test_fewer_images_than_neighbours_all_vote_and_a_finding_nobody_knows_is_at_one_half():
    kept, labels = np.eye(D)[:2], np.array([[1, 0, -1], [0, 0, -1]])
    found = asked(head_with(kept, labels), np.eye(D)[:1])
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-1 / 0.07)))
    assert (found[0, 1], found[0, 2]) == (0, 0.5)


def test_length_of_an_embedding_does_not_count():
    rng = np.random.default_rng(1)
    kept, labels, query = rng.normal(size=(30, D)), rng.integers(0, 2, size=(30, C)), rng.normal(size=(1, D))
    np.testing.assert_allclose(asked(head_with(kept, labels), query), asked(head_with(kept * 9, labels), query * 4), atol=1e-5)


def test_a_wrong_unanimous_vote_has_a_finite_loss():
    head = head_with(np.eye(D)[:3], np.ones((3, C)))
    outputs = head({POOLED: torch.eye(D)[:1, :, None, None]})
    loss = head.loss(outputs, Targets(labels=torch.tensor([[0.0, -1.0, 1.0]])))
    assert loss.item() == pytest.approx(-np.log(nearest_neighbour.LEAST) / 2, rel=0.02)


def test_a_stored_memory_fills_an_empty_head():
    rng = np.random.default_rng(2)
    kept, labels, query = rng.normal(size=(9, D)), rng.integers(0, 2, size=(9, C)), rng.normal(size=(2, D))
    first = head_with(kept, labels)
    second = build(HeadRequest({32: D}, C, 64, Switches(), embed_dim=D)).eval()
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(asked(first, query), asked(second, query))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_refused_and_no_vote_of_one_half(value):
    kept, labels, broken = np.eye(D)[:4], np.ones((4, C)), np.eye(D)[:3]
    broken[1, 2] = value
    with pytest.raises(TrainingError, match="Embeddings of 1 of 3 images are not finite numbers"):
        asked(head_with(kept, labels), broken)
    with pytest.raises(TrainingError, match="Embeddings of 1 of 3 images are not finite numbers"):
        head_with(broken, labels[:3])
