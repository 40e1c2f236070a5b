"""Promises of whole-image labels through the whole job: probes and fine-tuning, scores stored and scored again, one class or several."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark import kinds
from benchmark.cards import POOLED, Switches
from benchmark.errors import DataError, UsageError
from benchmark.heads import classifier, softmax_classifier
from benchmark.heads.base import HeadRequest, Targets
from benchmark.kinds.kit import class_scores
from benchmark.kinds.kit.class_scores import SCORES_FILE, read_scores
from benchmark.kinds.kit.stored import STATISTICS_FILE, read_statistics
from benchmark.metrics.statistics import pooled_metrics
from benchmark.submission.same_statistics import fault_of_images
from benchmark.submission.score import scorer
from benchmark.training.data import load_part
from tests.corpora import CorpusPlan, write_corpus

REQUEST = HeadRequest(channels={32: 8}, n_classes=3, frame_size=64, switches=Switches(), embed_dim=5)
PROBE = "rsna-labels-linear-frozen-100-gloria"


@pytest.fixture(scope="module")
def covidx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("covidx")
    write_corpus(CorpusPlan(dataset="covidx", n_patients=8, seed=4, images_per_patient=(2, 2)), root / "covidx")
    return root


def test_an_unknown_label_trains_nothing() -> None:
    head = classifier.build(REQUEST)
    outputs = head({POOLED: torch.ones(2, 5, 1, 1)})
    known = torch.tensor([[1.0, 0, -1], [0, -1, -1]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs[known >= 0], known[known >= 0])
    assert torch.isclose(head.loss(outputs, Targets(labels=known)), expected)
    assert head.loss(outputs, Targets(labels=torch.full((2, 3), -1.0))) == 0


def test_exclusive_classes_share_one_probability() -> None:
    head = softmax_classifier.build(REQUEST)
    outputs = head({POOLED: torch.randn(4, 5, 1, 1)})
    assert torch.allclose(head.predict(outputs).sum(dim=1), torch.ones(4))
    labels = torch.eye(3)[[0, 2, 1, 1]]
    assert torch.isclose(head.loss(outputs, Targets(labels=labels)), torch.nn.functional.cross_entropy(outputs, labels.argmax(1)))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([[0, 1], [0, 0], [0, -1]], "2 of 3 images have no class and 0 have several"),
        ([[0, 1], [1, 1], [1, -1]], "0 of 3 images have no class and 1 have several"),
    ],
)
@pytest.mark.parametrize(
    ("trains", "exclusive", "each"),
    [
        (True, SimpleNamespace(head="softmax_classifier"), SimpleNamespace(head="classifier")),
        (False, SimpleNamespace(words=SimpleNamespace(decision="highest")), SimpleNamespace(words=SimpleNamespace(decision="each"))),
    ],
)
def test_where_one_class_is_chosen_every_image_must_have_exactly_one(labels, sentence: str, trains: bool, exclusive, each) -> None:
    samples = [SimpleNamespace(labels=np.array(row, np.int8)) for row in labels]
    kind = kinds.find("labels", trains=trains)
    with pytest.raises(DataError, match=f"{sentence}, where .* takes exactly one an image"):
        kind.annotations(samples, exclusive)
    assert kind.annotations(samples, each).tolist() == labels
    assert kind.annotations(samples[:1], exclusive).tolist() == labels[:1]


def test_a_linear_probe_gives_a_record_with_scores_that_score_the_same_again(small, tiny, corpora: Path, tmp_path: Path) -> None:
    job, place = small.one(PROBE, tiny(), limit=16)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert record.status == "ok"
    assert {"auroc", "ap", "f1", "mcc", "accuracy", "calibration_error", "brier"} <= set(record.metrics)
    assert record.validation["negative_loss"] < 0
    assert record.parameters["trained"] == 17  # 16 weights and a bias
    stored = read_statistics(tmp_path / "produced" / STATISTICS_FILE)
    pooled = {name: metric(None) for name, metric in pooled_metrics(stored.statistics).items()}
    assert {name: value for name, value in pooled.items() if value is not None} == record.metrics
    scores, ids, classes = read_scores(tmp_path / "produced" / SCORES_FILE)
    assert classes == ("opacity",)
    assert ids == stored.ids
    assert np.array_equal(scores, stored.statistics.scores)
    again = scorer(PROBE, [str(corpora)], tmp_path / "cache", job.labels.protocol, 16).score(tmp_path / "produced" / SCORES_FILE)
    assert again.split == job.experiment.dataset.split
    assert again.metrics == pytest.approx(record.metrics, abs=1e-6)
    assert fault_of_images(stored, again.images) == ""


@pytest.mark.parametrize(("given", "said"), [(-3.5, "from -3.5 to 0"), (97.0, "from 0 to 97")])
def test_scores_that_are_no_probabilities_are_refused(small, tiny, tmp_path: Path, given: float, said: str) -> None:
    job, place = small.one(PROBE, tiny(), limit=16)
    part = load_part(job.experiment, place, "test")
    scores = np.zeros((len(part), 1))
    scores[0] = given
    class_scores.write(tmp_path, job, part, scores)
    with pytest.raises(UsageError, match=rf"has scores {said}; this task's are probabilities"):
        part.kind.rescore(tmp_path / SCORES_FILE, job, part, place.card)


def test_a_probe_leaves_the_encoder_and_fine_tuning_does_not(small, tiny) -> None:
    job, place = small.one("rsna-labels-linear-finetune-100-lobe", tiny(), limit=16)
    record = small.fit(job, place, learning_rate=1e-3)
    assert record.status == "ok"
    assert record.parameters["frozen"] == 0
    assert record.parameters["trained"] == record.parameters["head"] + record.parameters["encoder"]


def test_three_exclusive_classes_are_decided_by_the_highest_score(small, tiny, covidx: Path, tmp_path: Path) -> None:
    job, place = small.one("covidx-linear-frozen-100-mgca", tiny(), root=covidx, limit=16)
    record = small.fit(job, place, produced=tmp_path / "produced")
    stored = read_statistics(tmp_path / "produced" / STATISTICS_FILE).statistics
    decided, true = np.argmax(stored.scores, axis=1), np.argmax(stored.truth, axis=1)
    assert record.metrics["accuracy"] == pytest.approx((decided == true).mean())
    assert {"kappa", "mcc", "precision", "recall", "f1"} <= set(record.metrics)
    assert np.allclose(np.sum(stored.scores, axis=1), 1, atol=1e-6)


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nih")
    write_corpus(CorpusPlan(dataset="nih-cxr", n_patients=16, seed=4, images_per_patient=(1, 1)), root / "nih-cxr")
    return root


def test_fourteen_findings_are_learnt_and_those_nobody_shows_are_named(small, tiny, nih: Path) -> None:
    job, place = small.one("nih-labels-linear-frozen-100-lobe", tiny(), root=nih, limit=16)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert "auroc" in record.metrics
    assert "Hernia_auroc" not in record.metrics
    assert any("Hernia" in sentence for sentence in record.warnings)


def test_fine_tuning_on_fourteen_findings_trains_the_encoder(small, tiny, nih: Path) -> None:
    job, place = small.one("nih-labels-linear-finetune-100-g2d", tiny(), root=nih, limit=16)
    record = small.fit(job, place, learning_rate=1e-3)
    assert (record.status, record.parameters["frozen"]) == ("ok", 0)


def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(UsageError, match="Cannot read the class scores"):
        read_scores(tmp_path / "no.parquet")
