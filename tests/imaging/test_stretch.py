"""Deep images become 8 bits linearly, from their darkest to their brightest pixel; what has 8 bits stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark import registry
from benchmark.imaging.prepare import intensity_under, prepare_image
from benchmark.imaging.stretch import stretch
from benchmark.phantom.corpus import CorpusPlan
from benchmark.readers.base import open_reader
from tests.corpora import write_corpus


def test_darkest_and_brightest_become_the_ends_and_the_middle_the_middle():
    grey = np.array([[1000, 2000], [3000, 1500]], np.uint16)
    assert stretch(grey).tolist() == [[0, 128], [255, 64]]


def test_order_is_kept_and_the_bytes_are_those_of_the_formula():
    grey = np.random.default_rng(0).integers(300, 4096, (40, 30)).astype(np.uint16)
    low, high = grey.min(), grey.max()
    assert np.array_equal(stretch(grey), np.rint(255 * (grey.astype(float) - low) / (high - low)).astype(np.uint8))


def test_eight_bits_stay_as_stored_also_where_they_do_not_fill_the_range():
    grey = np.array([[10, 20]], np.uint8)
    assert stretch(grey) is grey


def test_one_grey_value_alone_is_black():
    assert stretch(np.full((3, 3), 700, np.uint16)).max() == 0


@pytest.mark.parametrize("name", ["jsrt", "vindr-cxr", "padchest"])
def test_releases_of_deep_images_are_taken_without_equalising(name, tmp_path):
    write_corpus(CorpusPlan(dataset=name, n_patients=6, seed=1), tmp_path / name)
    reader = open_reader(registry.dataset(name), tmp_path / name)
    sample = replace(reader.sample(reader.ids[0]), masks=None)
    assert sample.image().dtype == np.uint16
    prepared, _, _ = prepare_image(sample, intensity_under(reader.card, "never"), 32)
    assert prepared.dtype == np.uint8
    assert prepared.max() > 100
