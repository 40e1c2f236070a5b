"""Tasks that train nothing: one evaluation, scores that depend on the prompts, and a clear no to backbones without words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark import kinds, registry
from benchmark.encoders import python_file
from benchmark.encoders.base import VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, DataError, UsageError
from benchmark.kinds.kit.class_scores import SCORES_FILE, labels_of, read_scores
from benchmark.kinds.kit.embedding import UntrainedJob
from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, read_statistics
from benchmark.kinds.kit.untrained import words_of
from benchmark.metrics.label_statistics import ClassificationStatistics
from benchmark.metrics.statistics import pooled_metrics
from benchmark.submission.same_statistics import fault_of_images
from benchmark.training.data import load_part

RSNA = "rsna-labels-zero-shot-lobe"


def stored(produced: Path) -> ClassificationStatistics:
    return read_statistics(produced / STATISTICS_FILE).statistics


def test_zero_shot_scores_are_those_of_the_prompts_and_score_the_same_again(small, tiny_words, tmp_path: Path) -> None:
    file = tiny_words()
    job, place = small.one(RSNA, file, limit=10)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert record.status == "ok"
    assert (record.learning_rate, record.steps, record.curve, record.selected_epoch) == (None, 0, (), None)
    assert record.parameters["trained"] == 0
    kept = stored(tmp_path / "produced")
    metrics = {name: metric(None) for name, metric in pooled_metrics(kept).items()}
    assert all(record.metrics[name] == value for name, value in metrics.items() if value is not None)
    assert record.metrics["auroc_lowest_set"] <= record.metrics["auroc_mean_of_sets"] <= record.metrics["auroc_highest_set"]
    assert kept.thresholds is not None, "a threshold comes from validation"

    # By hand: cosines of both sides, a softmax of each pair, the mean over five paraphrases.
    scores, ids, _ = read_scores(tmp_path / "produced" / SCORES_FILE)
    backbone = python_file.build(f"{file}:build").eval()
    encoder = SealedEncoder(backbone, job.experiment.dataset.statistics)
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

    kind, file = kinds.of_experiment(job.experiment), tmp_path / "produced" / SCORES_FILE
    again = kind.rescore(file, job, part, place.card)
    assert again.metrics["auroc"] == pytest.approx(record.metrics["auroc"], abs=1e-6)
    by_image = read_statistics(tmp_path / "produced" / STATISTICS_FILE)
    assert fault_of_images(by_image, ByImage(part.ids, part.patients, again.statistics)) == ""
    name, text = kind.export(file, "task")
    assert (name, text.decode().splitlines()[0]) == ("scores.csv", "id,opacity")
    with pytest.raises(UsageError, match=r"scores the classes opacity; the task's are mass\."):
        kind.rescore(file, job, part, place.card.model_copy(update={"classes": ("mass",)}))


def test_a_task_without_prompts_cannot_ask_and_one_that_is_trained_asks_nothing(small, tiny) -> None:
    job, _ = small.one("rsna-linear-frozen-100", tiny())
    with pytest.raises(UsageError, match="rsna-linear-frozen-100 has no `words`"):
        words_of(job)
    given = SimpleNamespace(experiment=job.experiment, job=job)
    with pytest.raises(UsageError, match="rsna-linear-frozen-100 asks with no prompts: its card names none"):
        kinds.find("labels", trains=False).answer(given)
    blind = SimpleNamespace(encoder=SimpleNamespace(backbone=SimpleNamespace(spec=SimpleNamespace(name="tiny"))))
    with pytest.raises(UsageError, match="tiny has no text side"):
        UntrainedJob.backbone.fget(blind)
    samples = [SimpleNamespace(labels=np.zeros(1, np.int8)), SimpleNamespace(labels=None)]
    with pytest.raises(DataError, match="1 of 2 images have no labels, which classification reads"):
        labels_of(samples)


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
        found[protocol] = stored(tmp_path / protocol).scores
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
        spread[protocol] = np.ptp(stored(tmp_path / protocol).scores, axis=1).max()
    assert spread["published"] == 0  # all classes asked with one word
    assert spread["corrected"] > 0


@pytest.mark.parametrize("task", ["chexpert-5x200-zero-shot-gloria", "chexpert-5x200-zero-shot-prior", "chexpert-5x200-zero-shot-lobe"])
def test_every_version_of_5x200_has_all_five_classes_even_when_limited(small, tiny_words, corpus: Path, tmp_path: Path, task) -> None:
    job, place = small.one(task, tiny_words(), root=corpus, limit=5, card={"protocols": ("corrected",)})
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert stored(tmp_path / "produced").truth.sum(axis=0).tolist() == [1, 1, 1, 1, 1]
    assert registry.task(task).report in record.metrics


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
