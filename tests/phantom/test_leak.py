"""Images of one patient share anatomy, exposure and findings, so a split that leaks patients scores higher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.imaging.prepare import prepare_image
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.readers.base import open_reader

SIDE = 32


@pytest.mark.parametrize("dataset", ["rsna", "covid-rural"])
def test_the_nearest_image_knows_more_when_it_may_be_of_the_same_patient(dataset: str, tmp_path: Path):
    write_corpus(CorpusPlan(dataset, n_patients=18, seed=9, images_per_patient=(3, 3), positive_share=0.5), tmp_path / dataset)
    reader = open_reader(registry.dataset(dataset), tmp_path / dataset)
    samples = [reader.sample(i) for i in reader.ids]
    prepared = [prepare_image(sample, reader.card.intensity, SIDE) for sample in samples]
    pixels = np.stack([image.ravel() for image, _, _ in prepared]).astype(np.float64)
    pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    alike = pixels @ pixels.T
    masks = np.stack([mask.any(axis=0).ravel() for _, _, mask in prepared])
    patients = np.array([sample.patient_id for sample in samples])
    same = patients[:, None] == patients[None, :]

    def dice(allowed: np.ndarray) -> float:
        """Of the mask of each image's nearest allowed neighbour, over all images together."""
        predicted = masks[np.where(allowed, alike, -np.inf).argmax(axis=1)]
        return 2 * np.count_nonzero(predicted & masks) / (np.count_nonzero(predicted) + np.count_nonzero(masks))

    leaky, clean = dice(~np.eye(len(samples), dtype=bool)), dice(~same)
    assert leaky > clean + 0.1
