"""Promises of tasks that train nothing: one evaluation, scores that depend on the prompts, and a clear no to backbones without words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from benchmark import registry
from benchmark.encoders import python_file
from benchmark.encoders.base import VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, DataError, UsageError
from benchmark.metrics.statistics import from_json, pooled_metrics
from benchmark.phantom.corpus import Plan, write_corpus
from benchmark.readers import open_i
from benchmark.readers.base import open_reader
from benchmark.training import once
from benchmark.training.once import EMBEDDINGS_FILE, MAPS_FILE
from benchmark.training.predictions import SCORES_FILE, STATISTICS_FILE, read_scores

RSNA = "rsna-labels-zero-shot-lobe"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("words")
    write_corpus(Plan(dataset="chexpert", n_patients=30, seed=5, images_per_patient=(2, 2), positive_share=0.9), root / "chexpert")
    write_corpus(Plan(dataset="mimic-cxr", n_patients=48, seed=5, images_per_patient=(1, 2), positive_share=0.9), root / "mimic-cxr")
    for name, n in (("rsna", 24), ("siim", 48), ("open-i", 24)):
        write_corpus(Plan(dataset=name, n_patients=n, seed=5, images_per_patient=(1, 1), positive_share=0.5), root / name)
    write_corpus(Plan(dataset="nih-cxr", n_patients=10, seed=5, images_per_patient=(1, 1)), root / "nih-cxr")
    return root


def stored(produced: Path) -> dict:
    return json.loads((produced / STATISTICS_FILE).read_text())


def test_zero_shot_scores_are_those_of_the_prompts_and_score_the_same_again(small, tiny_words, tmp_path: Path) -> None:
    file = tiny_words()
    job, place = small.one(RSNA, file, limit=10)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert record.status == "ok"
    assert (record.learning_rate, record.steps, record.curve, record.selected_epoch) == (None, 0, (), None)
    assert record.parameters["trained"] == 0
    kept = stored(tmp_path / "produced")
    metrics = {name: metric(None) for name, metric in pooled_metrics(from_json(kept)).items()}
    assert all(record.metrics[name] == value for name, value in metrics.items() if value is not None)
    assert record.metrics["auroc_lowest_set"] <= record.metrics["auroc_mean_of_sets"] <= record.metrics["auroc_highest_set"]
    assert kept["thresholds"] is not None, "a threshold comes from validation"

    # By hand: cosines of both sides, a softmax of each pair, the mean over five paraphrases.
    scores, ids, _ = read_scores(tmp_path / "produced" / SCORES_FILE)
    backbone = python_file.build(f"{file}:build").eval()
    encoder = SealedEncoder(backbone, job.experiment.dataset.statistics)
    from benchmark.training.data import load_part

    part = load_part(job.experiment, place, "test")
    assert part.ids == ids
    with torch.no_grad():
        image = F.normalize(encoder.embed_images(part.images(np.arange(len(part)))).global_, dim=1)
        each = []
        for asked in job.experiment.asked.sets:
            pair = [*asked.positives["opacity"], *asked.negatives["opacity"]]
            text = F.normalize(backbone.embed_texts(pair).global_, dim=1)
            each.append((image @ text.T).softmax(dim=1)[:, 0])
    assert np.allclose(scores[:, 0], torch.stack(each).mean(dim=0), atol=1e-6)


def test_a_fixed_backbone_is_evaluated_once_and_a_random_one_with_every_seed(small, tiny_words) -> None:
    file = tiny_words()
    fixed, _ = small.plan(RSNA, [file], runs=3)
    drawn, _ = small.plan(RSNA, [small.backbone(file, random=True)], runs=3)
    assert len(fixed) == 1
    assert len({job.key for job in drawn}) == 3
    assert [job.experiment.backbone.init_seed for job in drawn] == [12345, 12346, 12347]


def test_a_backbone_without_a_text_side_is_refused_in_one_sentence(small, tiny) -> None:
    job, place = small.one(RSNA, tiny(), limit=8)
    with pytest.raises(ConformanceError, match=r"tiny has no text side, and rsna-labels-zero-shot-lobe compares images with words"):
        small.fit(job, place)


def test_published_standardises_over_the_images_and_corrected_does_not(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    file = tiny_words()
    task = "chexpert-5x200-zero-shot-mgca"
    found = {}
    for protocol in ("published", "corrected"):
        job, place = small.one(task, file, root=corpus, limit=10, card={"protocols": (protocol,)})
        small.fit(job, place, produced=tmp_path / protocol)
        found[protocol] = np.array(stored(tmp_path / protocol)["scores"])
    raw = found["corrected"]
    assert np.allclose(found["published"], (raw - raw.mean(axis=0)) / raw.std(axis=0))
    assert not np.allclose(found["published"], raw)


@pytest.mark.parametrize("task", ["chexpert-5x200-zero-shot-gloria", "chexpert-5x200-zero-shot-mgca", "chexpert-5x200-zero-shot-prior"])
def test_published_reads_prompts_by_the_backbones_released_rule_and_corrected_as_any_text(
    small, tiny_words, corpus: Path, tmp_path: Path, monkeypatch, task
) -> None:
    """The backbone's released rule here: every prompt is the word "released"."""

    def embed_prompts(backbone, texts):
        return backbone.embed_texts(["released"] * len(texts))

    monkeypatch.setattr(VisionLanguageBackbone, "embed_prompts", embed_prompts)
    file, spread = tiny_words(), {}
    for protocol in ("published", "corrected"):
        job, place = small.one(task, file, root=corpus, limit=10, card={"protocols": (protocol,)})
        small.fit(job, place, produced=tmp_path / protocol)
        spread[protocol] = np.ptp(np.array(stored(tmp_path / protocol)["scores"]), axis=1).max()
    assert spread["published"] == 0  # all classes asked with one word
    assert spread["corrected"] > 0


@pytest.mark.parametrize("task", ["chexpert-5x200-zero-shot-gloria", "chexpert-5x200-zero-shot-prior", "chexpert-5x200-zero-shot-lobe"])
def test_every_version_of_5x200_has_all_five_classes_even_when_limited(small, tiny_words, corpus: Path, tmp_path: Path, task) -> None:
    job, place = small.one(task, tiny_words(), root=corpus, limit=5, card={"protocols": ("corrected",)})
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert np.array(stored(tmp_path / "produced")["truth"]).sum(axis=0).tolist() == [1, 1, 1, 1, 1]
    assert registry.task(task).report in record.metrics


def test_grounding_scores_every_boxed_class_in_original_pixels(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    job, place = small.one("nih-cxr-grounding-lobe", tiny_words(), root=corpus, limit=8)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert {"cnr", "cnr_abs", "miou", "pointing", "centre_cnr", "centre_pointing"} <= set(record.metrics)
    table = pq.read_table(tmp_path / "produced" / MAPS_FILE)
    assert table.num_rows == record.metrics["n_phrases"] == len(stored(tmp_path / "produced")["image"])
    assert set(table.column("height").to_pylist()) == {2}  # 64 pixels at stride 32
    assert all(-1 <= value <= 1 for row in table.column("map").to_pylist() for value in row)


def test_phrases_are_asked_in_their_own_words_and_scored_against_the_union_of_their_boxes(small, tiny_words, tmp_path: Path) -> None:
    write_corpus(Plan(dataset="ms-cxr", n_patients=8, seed=5, images_per_patient=(1, 1)), tmp_path / "ms-cxr")
    file = tiny_words()
    job, place = small.one("ms-cxr-grounding-lobe", file, root=tmp_path, limit=6)
    record = small.fit(job, place, produced=tmp_path / "produced")
    part, samples = place_test(job, place)
    wanted = [(i, phrase) for i, sample in enumerate(samples) for phrase in sample.phrases]
    assert record.metrics["n_phrases"] == len(wanted) >= 6
    assert stored(tmp_path / "produced")["image"] == [i for i, _ in wanted]

    # By hand: the cosine of a phrase with every place, upsampled over the padded frame, against the filled boxes.
    backbone = python_file.build(f"{file}:build").eval()
    encoder = SealedEncoder(backbone, job.experiment.dataset.statistics)
    cnr = []
    with torch.no_grad():
        for (i, phrase), frame in zip(wanted, part.cache.frames(part.rows[[i for i, _ in wanted]]), strict=True):
            places = F.normalize(encoder.embed_images(part.images(np.array([i]))).local[0], dim=0)
            text = F.normalize(backbone.embed_texts([phrase.text]).global_[0], dim=0)
            side = max(frame.height, frame.width)
            whole = F.interpolate(torch.einsum("dhw,d->hw", places, text)[None, None], size=(side, side), mode="bilinear")[0, 0].numpy()
            seen = whole[:, frame.pad_left : frame.pad_left + frame.width]
            inside = np.zeros(seen.shape, bool)
            for x, y, w, h in phrase.boxes_xywh.astype(int):
                inside[y : y + h, x : x + w] = True
            cnr.append((seen[inside].mean() - seen[~inside].mean()) / np.sqrt(seen[inside].var() + seen[~inside].var()))
    assert np.isclose(record.metrics["cnr"], np.mean(cnr), atol=1e-4)


def place_test(job, place):
    """The test part of a job that trains nothing, and its samples."""
    from benchmark.training.data import load_part

    part, reader = load_part(job.experiment, place, "test"), open_reader(place.card, place.dataset_root)
    return part, [reader.sample(i) for i in part.ids]


@pytest.mark.parametrize(
    "task",
    [
        "rsna-labels-zero-shot-g2d",
        "siim-labels-zero-shot-g2d",
        "nih-labels-zero-shot-g2d",
        "chexpert-zero-shot-g2d",
        "open-i-retrieval-lobe",
    ],
)
def test_a_task_that_asks_once_gives_its_number(small, tiny_words, corpus: Path, task: str) -> None:
    job, place = small.one(task, tiny_words(), root=corpus, limit=16)
    value = small.fit(job, place).metrics[registry.task(task).report]
    assert 0 <= value <= 1


# --------------------------------------------------------------------------------------------------------------- retrieval


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
    monkeypatch.setattr(once, "EXHAUSTIVE", 5)
    job, place = small.one("mimic-cxr-5x200-retrieval-own-kept-lobe", tiny_words(), root=corpus, limit=10)
    with pytest.raises(UsageError, match="Use a task that re-ranks"):
        small.fit(job, place)


# ------------------------------------------------------------------------------------------------------------ odd reports

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


# ------------------------------------------------------------------------------------- a class that nobody has in the test


@pytest.mark.parametrize(
    ("task", "column", "report"),
    [
        ("chexpert-5x200-zero-shot-mgca", "Pleural Effusion_auroc", "accuracy"),
        ("chexpert-5x200-zero-shot-lobe", "Pleural Effusion_auroc", "auroc"),
        ("mimic-cxr-5x200-retrieval-own-kept-lobe", "Pleural Effusion_image_to_text_precision@5", "image_to_text_precision@5"),
    ],
)
def test_a_class_that_no_test_image_has_is_named_and_left_out_of_the_mean(small, tiny_words, corpus: Path, task, column, report) -> None:
    job, place = small.one(task, tiny_words(), root=corpus, limit=4, card={"protocols": ("corrected",)})  # classes take turns
    record = small.fit(job, place)
    assert record.status == "ok"
    assert column not in record.metrics
    assert any(warning.startswith(f"{column} is undefined") for warning in record.warnings)
    assert 0 <= record.metrics[report] <= 1
    if report == "auroc":
        others = [record.metrics[f"{name}_auroc"] for name in job.experiment.dataset.classes if name != "Pleural Effusion"]
        assert record.metrics["auroc"] == pytest.approx(np.mean(others))


def test_a_number_that_no_image_allows_is_absent_with_the_reason_and_never_zero(small, tiny_words, corpus: Path) -> None:
    job, place = small.one("mimic-cxr-5x200-retrieval-own-removed-lobe", tiny_words(), root=corpus, limit=4)  # one image of each class
    record = small.fit(job, place)
    assert "image_to_text_precision@5" not in record.metrics
    assert any(warning.startswith("image_to_text_precision@5 is undefined") for warning in record.warnings)


def test_a_finding_without_a_box_in_the_test_has_no_contrast_of_its_own(small, tiny_words, corpus: Path) -> None:
    job, place = small.one("nih-cxr-grounding-lobe", tiny_words(), root=corpus, limit=2)
    record = small.fit(job, place)
    absent = [name for name in registry.dataset("nih-cxr").classes if f"{name}_cnr" not in record.metrics]
    assert absent
    assert all(any(w.startswith(f"{name}_cnr is undefined") for w in record.warnings) for name in absent)
    assert math.isfinite(record.metrics["cnr"])
