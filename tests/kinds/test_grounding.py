"""Grounding: phrases are scored in original pixels, against the boxes they belong to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn import functional as F

from benchmark import registry
from benchmark.encoders import python_file
from benchmark.encoders.sealed import SealedEncoder
from benchmark.kinds.grounding import MAPS_FILE
from benchmark.kinds.kit.stored import STATISTICS_FILE, read_statistics
from benchmark.metrics.label_statistics import MeanStatistics
from benchmark.training.data import load_part
from tests.corpora import CorpusPlan, write_corpus


def stored(produced: Path) -> MeanStatistics:
    return read_statistics(produced / STATISTICS_FILE).statistics


def test_grounding_scores_every_boxed_class_in_original_pixels(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    job, place = small.one("nih-cxr-grounding-lobe", tiny_words(), root=corpus, limit=8)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert {"cnr", "cnr_abs", "miou", "pointing", "centre_cnr", "centre_pointing"} <= set(record.metrics)
    table = pq.read_table(tmp_path / "produced" / MAPS_FILE)
    assert table.num_rows == record.metrics["n_phrases"] == len(stored(tmp_path / "produced").image)
    assert set(table.column("height").to_pylist()) == {2}  # 64 pixels at stride 32
    assert all(-1 <= value <= 1 for row in table.column("map").to_pylist() for value in row)


def test_phrases_are_asked_in_their_own_words_and_scored_against_the_union_of_their_boxes(small, tiny_words, tmp_path: Path) -> None:
    write_corpus(CorpusPlan(dataset="ms-cxr", n_patients=8, seed=5, images_per_patient=(1, 1)), tmp_path / "ms-cxr")
    file = tiny_words()
    job, place = small.one("ms-cxr-grounding-lobe", file, root=tmp_path, limit=6)
    record = small.fit(job, place, produced=tmp_path / "produced")
    part = load_part(job.experiment, place, "test")
    wanted = [(i, phrase) for i, sample in enumerate(part.annotations) for phrase in sample.phrases]
    assert record.metrics["n_phrases"] == len(wanted) >= 6
    assert stored(tmp_path / "produced").image.tolist() == [i for i, _ in wanted]

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


def test_phrases_meet_places_as_the_backbone_says(small, tiny_words, corpus: Path) -> None:
    """A method may bring other vectors of a text near to places than near to whole images."""
    plain, turned = tiny_words(), tiny_words("turned")
    turned.write_text(f"{turned.read_text()}\n\nTiny.among_places = lambda self, text: -text.global_\n")
    jobs = [small.one("nih-cxr-grounding-lobe", file, root=corpus, limit=8) for file in (plain, turned)]
    first, second = (small.fit(*job).metrics["cnr"] for job in jobs)
    assert first != 0
    assert math.isclose(first, -second, abs_tol=1e-5)


def test_a_finding_without_a_box_in_the_test_has_no_contrast_of_its_own(small, tiny_words, corpus: Path) -> None:
    job, place = small.one("nih-cxr-grounding-lobe", tiny_words(), root=corpus, limit=2)
    record = small.fit(job, place)
    absent = [name for name in registry.dataset("nih-cxr").classes if f"{name}_cnr" not in record.metrics]
    assert absent
    assert all(any(w.startswith(f"{name}_cnr is undefined") for w in record.warnings) for name in absent)
    assert math.isfinite(record.metrics["cnr"])
