"""Retrieval: ranks by the similarity that the task names, and a clear sentence for reports that cannot be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmark import registry
from benchmark.errors import ConformanceError, DataError, UsageError
from benchmark.kinds import retrieval
from benchmark.kinds.retrieval import EMBEDDINGS_FILE
from benchmark.readers import open_i
from benchmark.readers.base import open_reader
from benchmark.submission.score import scorer


def test_retrieval_ranks_reports_and_images_by_the_cosine_of_both_sides(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    job, place = small.one("mimic-cxr-retrieval-lobe", tiny_words(), root=corpus, limit=12)
    record = small.fit(job, place, produced=tmp_path / "produced")
    pairs = pq.read_table(tmp_path / "produced" / EMBEDDINGS_FILE)
    image, text = (np.array(pairs.column(side).to_pylist()) for side in ("image", "text"))
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (image, text)]
    cosine = unit[0] @ unit[1].T
    for direction, table in (("image_to_text", cosine), ("text_to_image", cosine.T)):
        rank = 1 + (table > np.diag(table)[:, None]).sum(axis=1)  # no two reports of this corpus are alike
        assert record.metrics[f"{direction}_hit@5"] == pytest.approx((rank <= 5).mean())
        assert record.metrics[f"{direction}_mrr"] == pytest.approx((1 / rank).mean())
    assert record.metrics["duplicate_rate"] == 0
    assert record.metrics["prior_hit@5"] == pytest.approx(5 / 12)


def test_reranking_keeps_the_first_candidates_first_and_orders_them_by_words(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    file, found = tiny_words(), {}
    for k in (3, 12):
        words = registry.task("mimic-cxr-retrieval-rerank-lobe").words.model_copy(update={"rerank": k})
        job, place = small.one("mimic-cxr-retrieval-rerank-lobe", file, root=corpus, limit=12, card={"words": words})
        found[k] = small.fit(job, place, produced=tmp_path / f"first-{k}").metrics
    plain, _ = small.one("mimic-cxr-retrieval-lobe", file, root=corpus, limit=12)
    coarse = small.fit(plain, place, produced=tmp_path / "plain").metrics
    every = registry.task("mimic-cxr-retrieval-rerank-lobe").words.model_copy(update={"rerank": None})
    job, place = small.one("mimic-cxr-retrieval-rerank-lobe", file, root=corpus, limit=12, card={"words": every})
    exhaustive = small.fit(job, place, produced=tmp_path / "every").metrics
    # What stands behind the first three is the coarse order's, and all twelve in a new order are the exhaustive ranking.
    assert found[3]["image_to_text_hit@5"] == coarse["image_to_text_hit@5"]
    assert found[12] == pytest.approx(exhaustive)


def test_an_images_own_report_is_kept_or_removed_by_name(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    file, found = tiny_words(), {}
    for own in ("kept", "removed"):
        job, place = small.one(f"mimic-cxr-5x200-retrieval-own-{own}-lobe", file, root=corpus, limit=10)
        record = small.fit(job, place, produced=tmp_path / own)
        found[own] = record.metrics
    assert job.experiment.words.own_report == "removed"
    # Ten images of five classes, two each: with the own report two of ten match, without it one of nine.
    assert found["kept"]["prior_precision@10"] == pytest.approx(2 / 10)
    assert found["removed"]["prior_precision@10"] == pytest.approx(1 / 9)
    assert {f"{name}_image_to_text_precision@5" for name in registry.dataset("mimic-cxr").classes} <= set(found["kept"])


def test_word_by_word_retrieval_beyond_the_published_size_names_the_other_task(small, tiny_words, corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(retrieval, "EXHAUSTIVE", 5)
    job, place = small.one("mimic-cxr-5x200-retrieval-own-kept-lobe", tiny_words(), root=corpus, limit=10)
    with pytest.raises(UsageError, match="Use a task that re-ranks"):
        small.fit(job, place)


ODD_REPORTS = ("сердце увеличено", "Opacité 😀 \x00 basale", "...", "no focal consolidation " * 3_334)


def odd(monkeypatch: pytest.MonkeyPatch, corpus: Path, reports: Sequence[str]) -> None:
    """The first reports of Open-I become these."""
    reader = open_reader(registry.dataset("open-i"), corpus / "open-i")
    told = dict(zip(reader.split(registry.dataset("open-i").splits["all-reports"])["test"], reports, strict=False))
    sample = open_i.DatasetReader.sample
    monkeypatch.setattr(
        open_i.DatasetReader, "sample", lambda self, i: replace(sample(self, i), report=told[i]) if i in told else sample(self, i)
    )


def test_odd_reports_are_ranked_like_others_and_what_was_cut_is_counted(small, tiny_words, corpus: Path, monkeypatch) -> None:
    file = tiny_words()
    split, returned = "[text.lower().split() for text in texts]", "keepdim=True), local, mask)"
    assert split in file.read_text()
    assert returned in file.read_text()
    cut = file.read_text().replace(split, "[text.lower().split()[:99] for text in texts]")
    cut = cut.replace(returned, returned[:-1] + ", sum(len(text.split()) > 99 for text in texts))")
    file.write_text(cut)
    odd(monkeypatch, corpus, ODD_REPORTS)
    job, place = small.one("open-i-retrieval-lobe", file, root=corpus, limit=12)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["image_to_text_hit@5"] <= 1
    assert record.warnings[-1] == "1 of 12 reports are longer than the text encoder reads and were cut"
    assert not any(report in warning for warning in record.warnings for report in ODD_REPORTS)


@pytest.mark.parametrize("blank", ["", " \n "])
def test_an_empty_caption_is_an_error_that_counts_and_quotes_nothing(small, tiny_words, corpus: Path, monkeypatch, blank: str) -> None:
    odd(monkeypatch, corpus, ["Secretword.", blank])
    job, place = small.one("open-i-retrieval-lobe", tiny_words(), root=corpus, limit=12)
    with pytest.raises(DataError, match="1 of 12 test images have no report text") as raised:
        small.fit(job, place)
    assert "Secretword" not in str(raised.value)


def test_a_number_that_no_image_allows_is_absent_with_the_reason_and_never_zero(small, tiny_words, corpus: Path) -> None:
    job, place = small.one("mimic-cxr-5x200-retrieval-own-removed-lobe", tiny_words(), root=corpus, limit=4)  # one image of each class
    record = small.fit(job, place)
    assert "image_to_text_precision@5" not in record.metrics
    assert any(warning.startswith("image_to_text_precision@5 is undefined") for warning in record.warnings)


def test_embeddings_are_not_scored_again_and_the_sentence_says_where_the_metrics_are(
    small, tiny_words, corpus: Path, tmp_path: Path
) -> None:
    job, place = small.one("open-i-retrieval-lobe", tiny_words(), root=corpus, limit=8)
    small.fit(job, place, produced=tmp_path / "produced")
    with pytest.raises(UsageError, match=r"open-i-retrieval-lobe stores nothing that can be scored again .* stand in the record"):
        scorer("open-i-retrieval-lobe", [str(corpus)], tmp_path / "cache", "corrected", limit=8).score(
            tmp_path / "produced" / EMBEDDINGS_FILE
        )


def test_an_embedding_that_is_no_number_is_the_backbones_fault() -> None:
    retrieval._require_finite(np.ones((2, 3)), "embed_texts")
    with pytest.raises(ConformanceError, match=r"embed_images\(\) returned NaN or infinity"):
        retrieval._require_finite(np.array([[1.0, np.nan]]), "embed_images")
