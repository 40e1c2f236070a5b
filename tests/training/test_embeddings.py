"""What a joint space makes of an image is computed once for retrieval, zero-shot classification and grounding, and no number changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cards import VOLATILE_FIELDS
from benchmark.encoders.sealed import SealedEncoder
from benchmark.events import Encoded, Finished, Noticed
from benchmark.phantom.corpus import CorpusPlan
from benchmark.training import embeddings, feature_folders, feature_store
from benchmark.training import fit as fitting
from benchmark.training.embeddings import Embedder
from benchmark.training.options import RunOptions
from benchmark.training.shared_work import SharedWork
from tests.corpora import write_corpus

RETRIEVAL, RERANKED = "mimic-cxr-retrieval-lobe", "mimic-cxr-retrieval-rerank-lobe"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("words")
    write_corpus(CorpusPlan(dataset="mimic-cxr", n_patients=20, seed=5), root / "mimic-cxr")
    return root


@pytest.fixture
def embedded(monkeypatch) -> list[int]:
    """How many images pass the encoder, each time; no disk is ever too slow."""
    seen: list[int] = []
    embed = SealedEncoder.embed_images
    monkeypatch.setattr(SealedEncoder, "embed_images", lambda self, images: seen.append(len(images)) or embed(self, images))
    monkeypatch.setattr(embeddings, "is_slower", lambda reading_s, compute_s: False)
    return seen


def events_of(job, place, cache: Path) -> list:
    return list(fitting.fit(job, replace(place, cache=cache), RunOptions(), 0.0, SharedWork()))


def content(event: Finished) -> tuple:
    return event.record.model_dump(exclude=VOLATILE_FIELDS), event.files


def test_jobs_of_one_backbone_and_dataset_embed_each_image_once(small, tiny_words, corpus: Path, tmp_path: Path, embedded, monkeypatch):
    file = tiny_words()
    one, place = small.one(RETRIEVAL, file, root=corpus, limit=10, batch_size=4)
    other, other_place = small.one(RERANKED, file, root=corpus, limit=10, batch_size=4)
    cache = tmp_path / "shared" / "images"
    *_, first = events_of(one, place, cache)
    assert embedded == [4, 4, 2]
    *_, reranked = events_of(other, other_place, cache)
    *_, again = events_of(one, place, cache)
    assert embedded == [4, 4, 2]
    monkeypatch.setattr(SharedWork, "embedder_of", lambda *_: Embedder(_[0].encoder, 4, _[-1], None, []))
    for job, at, kept in ((one, place, first), (one, place, again), (other, other_place, reranked)):
        *_, plain = events_of(job, at, cache)
        assert content(kept) == content(plain)
    assert len(embedded) > 6


def test_an_image_of_a_smaller_last_batch_is_embedded_again_in_a_larger_one(small, tiny_words, corpus: Path, tmp_path: Path, embedded):
    file, cache = tiny_words(), tmp_path / "shared" / "images"
    few, place = small.one(RETRIEVAL, file, root=corpus, limit=6, batch_size=4)
    events_of(few, place, cache)
    embedded.clear()
    many, place = small.one(RETRIEVAL, file, root=corpus, limit=8, batch_size=4)
    events_of(many, place, cache)
    assert embedded == [4]


def test_damaged_embeddings_are_computed_again_and_the_record_says_so(small, tiny_words, corpus: Path, tmp_path: Path, embedded):
    job, place = small.one(RETRIEVAL, tiny_words(), root=corpus, limit=10, batch_size=4)
    cache = tmp_path / "shared" / "images"
    *_, first = events_of(job, place, cache)
    (data,) = tmp_path.glob("shared/features/*/global.data")
    content_of = np.fromfile(data, np.uint8)
    content_of[np.flatnonzero(content_of)[0]] ^= 1
    data.write_bytes(content_of.tobytes())
    embedded.clear()
    *_, again = events_of(job, place, cache)
    assert len(embedded) == 1
    assert again.record.metrics == first.record.metrics
    assert again.files == first.files
    assert [w for w in again.record.warnings if w not in first.record.warnings] == [
        "1 rows of stored embeddings were damaged and were computed again. Does the disk of --cache fail?"
    ]


def test_embeddings_that_cannot_be_kept_are_computed_as_ever_and_it_is_said(small, tiny_words, corpus: Path, tmp_path: Path, embedded):
    job, place = small.one(RETRIEVAL, tiny_words(), root=corpus, limit=10, batch_size=4)
    *_, kept = events_of(job, place, tmp_path / "shared" / "images")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "features").write_text("a file where a folder should be")
    embedded.clear()
    events = events_of(job, place, tmp_path / "other" / "images")
    assert embedded == [4, 4, 2]
    assert content(events[-1]) == content(kept)
    (said,) = [event.sentence for event in events if isinstance(event, Noticed)]
    assert said.startswith("Features are not shared with other processes and later runs")


@pytest.mark.parametrize(
    ("fault", "said"),
    [("too full", "it would get too full."), ("full", "No space left on device.")],
)
def test_a_disk_without_room_costs_time_and_no_result(small, tiny_words, corpus: Path, tmp_path: Path, embedded, monkeypatch, fault, said):
    job, place = small.one(RETRIEVAL, tiny_words(), root=corpus, limit=10, batch_size=4)
    *_, kept = events_of(job, place, tmp_path / "shared" / "images")
    embedded.clear()
    if fault == "too full":
        monkeypatch.setattr(feature_folders, "LEAST_FREE_BYTES", 10**18)
    else:
        monkeypatch.setattr(feature_store, "write_at", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    events = events_of(job, place, tmp_path / "full" / "images")
    assert content(events[-1]) == content(kept)
    (sentence,) = [event.sentence for event in events if isinstance(event, Noticed)]
    assert sentence == f"Embeddings are not stored on the disk of {tmp_path / 'full' / 'features'}: {said}"
    assert len(embedded) >= 3


def test_steps_tell_how_far_it_is(small, tiny_words, corpus: Path, tmp_path: Path, embedded, monkeypatch):
    monkeypatch.setattr(embeddings, "STEP_S", 0.0)
    job, place = small.one(RETRIEVAL, tiny_words(), root=corpus, limit=10, batch_size=4)
    told = [(event.done, event.total) for event in events_of(job, place, tmp_path / "shared" / "images") if isinstance(event, Encoded)]
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_embeddings_that_are_no_dense_memory_are_not_kept(small, tiny_words, corpus: Path, tmp_path: Path, embedded):
    file = tiny_words()
    file.write_text(
        file.read_text().replace(
            "ImageEmbedding(places.mean(dim=(2, 3)), places)", "ImageEmbedding(places.mean(dim=(2, 3)), places[:, :, :, ::1][:, :, :, :1])"
        )
    )
    job, place = small.one(RETRIEVAL, file, root=corpus, limit=10, batch_size=4)
    events = events_of(job, place, tmp_path / "shared" / "images")
    assert events[-1].record.status == "ok"
    assert [event.sentence for event in events if isinstance(event, Noticed)] == [
        "Embeddings are not stored: an image's are no dense piece of memory."
    ]


def test_slow_reading_is_noticed_and_given_up(small, tiny_words, corpus: Path, tmp_path: Path, embedded, monkeypatch):
    job, place = small.one(RETRIEVAL, tiny_words(), root=corpus, limit=10, batch_size=2)
    cache = tmp_path / "shared" / "images"
    *_, first = events_of(job, place, cache)
    monkeypatch.setattr(embeddings, "is_slower", lambda reading_s, compute_s: True)
    monkeypatch.setattr(embeddings, "PACED_BATCHES", 2)
    embedded.clear()
    *events, again = events_of(job, place, cache)
    assert embedded == [2] * 5
    (said,) = [event.sentence for event in events if isinstance(event, Noticed)]
    assert said.startswith("Embeddings are computed again: reading those of an image takes")
    assert content(again) == content(first)
