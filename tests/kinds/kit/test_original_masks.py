"""Masks scored in original pixels: against the same computed by hand, against the frame where they agree, and again from what is stored."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from benchmark import registry
from benchmark.errors import DataChanged, UsageError
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import CacheRecipe
from benchmark.imaging.geometry import Frame
from benchmark.imaging.originals import Originals
from benchmark.kinds.base import Part
from benchmark.kinds.kit import original_masks
from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, read_statistics
from benchmark.kinds.segmentation import KIND, MASKS_FILE, encode, read_masks
from benchmark.metrics import grid_oracle, pixels, scores
from benchmark.readers.base import Sample
from benchmark.submission.same_statistics import fault_of_images
from benchmark.training.data import load_part

SIDE = 32
SHAPES = ((30, 47), (64, 64), (101, 50), (20, 20), (33, 32))  # wide, larger, high with an odd difference, smaller than the frame
CLASSES = ("mass", "nodule")
# What stands beside the Dice of every class (docs/protocols/lobe-scoring.md, Metrics).
BESIDE_DICE = {
    "avg_dice", "pooled_dice", "image_dice_positives", "negatives_empty", "pixel_ap", "nsd",
    "lesion_sensitivity_small", "lesion_sensitivity_medium", "lesion_sensitivity_large",
}  # fmt: skip
CARD = registry.dataset("covid-rural").model_copy(update={"classes": CLASSES})


def blobs(shape: tuple[int, int], seed: int) -> np.ndarray:
    """(2, H, W) bool: a few smooth shapes of the first class, sometimes one of the second."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((2, *shape)), (0, shape[0] / 9, shape[1] / 9))
    masks = noise > np.quantile(noise, 0.8, axis=(1, 2), keepdims=True)
    masks[1] &= seed % 2 == 0
    return masks


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., Part]:
    def make(shapes: Sequence[tuple[int, int]] = SHAPES, side: int = SIDE, draw: Callable = blobs, n_classes: int = 2) -> Part:
        samples = [
            Sample(
                id=f"image {i}",
                patient_id=None,
                image=lambda shape=shape: np.zeros(shape, np.uint8),
                files=(),
                masks=lambda asked, i=i: draw(asked, i),
            )
            for i, shape in enumerate(shapes)
        ]
        recipe = CacheRecipe(
            dataset="made-up", dataset_digest="x", intensity="as-stored", size=side, n_classes=n_classes, with_masks=True, decoders={}
        )
        cache = ImageCache.open(tmp_path, recipe, [sample.id for sample in samples])
        assert cache.fill(samples) == []
        rows, n = np.arange(len(samples)), len(samples)
        none = (np.zeros((0, 4), np.float32),) * n, (np.zeros(0, np.int64),) * n
        originals = Originals(cache.frames(rows), none[0], [sample.masks for sample in samples])
        ids = tuple(sample.id for sample in samples)
        return Part("test", ids, rows, *none, (None,) * n, cache, KIND, f"padded-{side}", originals=originals)

    return make


def probabilities(n: int, side: int = SIDE) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(7).random((n, 2, side, side)), (0, 0, 3, 3))
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


def scored_by_kind(part: Part, given: np.ndarray):
    batches = [np.arange(3), np.arange(3, len(given))]
    return KIND.test(((index, torch.from_numpy(given[index])) for index in batches), part, CARD, Mock(grid=None), batch_size=3)


def by_hand(values: np.ndarray, frame: Frame) -> np.ndarray:
    """(C, H, W) of (C, S, S): torch's interpolation of the whole padded square, then its padding cut off."""
    size = (frame.padded_height, frame.padded_width)
    whole = F.interpolate(torch.from_numpy(values)[None], size=size, mode="bilinear", align_corners=False)[0].numpy()
    return whole[:, frame.pad_top : frame.pad_top + frame.height, frame.pad_left : frame.pad_left + frame.width]


def test_pixels_are_those_of_the_image_without_its_padding(part) -> None:
    of, given = part(), probabilities(len(SHAPES))
    found = scored_by_kind(of, given)
    counts = found.statistics.counts
    for i, shape in enumerate(SHAPES):
        predicted, true = by_hand(given[i], Frame.of(*shape, SIDE)) >= 0.5, blobs(shape, i)
        assert np.abs(counts.tp[i] - (predicted & true).sum(axis=(1, 2))).max() <= 2  # of a rounding at the threshold
        assert np.abs(counts.fp[i] - (predicted & ~true).sum(axis=(1, 2))).max() <= 2
        assert (counts.tp + counts.fn)[i].tolist() == true.sum(axis=(1, 2)).tolist()
        seen = found.statistics.pixels
        assert seen.seen[i].sum(axis=1).tolist() == [shape[0] * shape[1]] * 2
        assert seen.true[i].sum(axis=1).tolist() == true.sum(axis=(1, 2)).tolist()
    assert found.statistics.frame_pixels is None
    in_frame = KIND.test([(np.arange(len(of)), torch.from_numpy(given))], replace(of, originals=None), CARD, Mock(), 3)
    assert in_frame.metrics["avg_dice"] != found.metrics["avg_dice"]
    assert found.predictions.frame == in_frame.predictions


def test_images_of_the_frames_size_score_as_in_the_frame(part) -> None:
    of, given = part([(224, 224)] * 4, 224), probabilities(4, 224)
    found = scored_by_kind(of, given)
    expected = scores.score_segmentation(given, of.true_masks, CLASSES, true_masks=True, batch_size=3)
    assert found.metrics == {name: value for name, value in expected.metrics.items() if name != "dice_with_background"}
    assert {"nsd", "pixel_ap", "lesion_sensitivity_small", "image_dice_batches"} <= found.metrics.keys()
    head = Mock(grid=7)
    assert KIND.anchors(of, CLASSES, head) == KIND.anchors(replace(of, originals=None), CLASSES, head)


def test_outlines_are_forgiven_the_same_distance_on_the_chest_in_every_image() -> None:
    assert [original_masks.tolerance_px(Frame.of(*shape, SIDE)) for shape in ((224, 100), (1024, 1024), (300, 2240))] == [
        2.0,
        pytest.approx(2 * 1024 / 224),
        20.0,
    ]


def test_probabilities_are_counted_at_twice_the_frames_resolution_and_no_finer(part) -> None:
    sizes = ((224, 224), (895, 600), (896, 600), (1024, 1024), (2400, 3000))
    assert [original_masks.pixels_apart(Frame.of(*shape, 224)) for shape in sizes] == [1, 1, 2, 2, 6]
    of, given = part([(300, 260)] * 2), probabilities(2)
    (first, _) = original_masks.scored([given], of, [])
    assert original_masks.pixels_apart(of.originals.frames[0]) == 4
    whole, true = by_hand(given[0], of.originals.frames[0]), blobs((300, 260), 0)
    every = pixels.average_precision(pixels.count_pixels(whole[None], true[None]))
    assert np.abs(first.pixels.seen.sum(axis=2) - 300 * 260).max() == 0
    assert pixels.average_precision(first.pixels) == pytest.approx(every, abs=0.005)


def test_no_map_lies_in_memory_beside_another(part) -> None:
    """All maps of 24 classes at once would be twice as large as predicted and true masks together."""
    n_classes, shape = 24, (600, 500)
    of = part([shape], draw=lambda shape, i: np.zeros((n_classes, *shape), bool), n_classes=n_classes)
    given, masks, one_map = np.random.default_rng(0).random((1, n_classes, SIDE, SIDE), np.float32), n_classes * 300_000, 4 * 300_000
    tracemalloc.start()
    for _ in original_masks.scored([given], of, []):
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * masks + 6 * one_map


def test_no_image_is_drawn_before_the_last_one_was_counted(part) -> None:
    asked: list[int] = []

    def draw(shape: tuple[int, int], i: int) -> np.ndarray:
        asked.append(i)
        return blobs(shape, i)

    of = part(draw=draw)
    asked.clear()
    codes: original_masks.Codes = []
    for n, _ in enumerate(original_masks.scored([probabilities(len(SHAPES))], of, codes), start=1):
        assert (asked, len(codes)) == (list(range(n)), n)


def test_the_ceiling_goes_the_way_of_a_prediction(part) -> None:
    of = part()
    found = KIND.anchors(of, CLASSES, Mock(grid=4))
    shares, true = [[], []], [[], []]
    down, up = grid_oracle.pooling_matrix(SIDE, 4), grid_oracle.upsampling_matrix(4, SIDE)
    for i, shape in enumerate(SHAPES):
        in_frame = Frame.of(*shape, SIDE).place_masks(blobs(shape, i)).astype(np.float32)
        back = by_hand(up @ (down @ in_frame @ down.T) @ up.T, Frame.of(*shape, SIDE))
        for label in range(2):
            shares[label].append(back[label].ravel())
            true[label].append(blobs(shape, i)[label].ravel())
    for label, name in enumerate(CLASSES):
        share, inside = np.concatenate(shares[label]), np.concatenate(true[label])
        chosen = [share >= t for t in np.arange(1, 200) / 200]
        best = max(2 * (c & inside).sum() / (c.sum() + inside.sum()) for c in chosen)
        assert found["grid oracle 4 x 4"][f"{name}_dice"] == pytest.approx(best, abs=0.01)
        everything = 2 * inside.sum() / (inside.sum() + inside.size)
        assert found["all positive"][f"{name}_dice"] == pytest.approx(everything, abs=1e-12)
    ceilings = [KIND.anchors(of, CLASSES, Mock(grid=grid)) for grid in (4, 16, None)]
    names = [list(each)[1] for each in ceilings]
    assert names == ["grid oracle 4 x 4", "grid oracle 16 x 16", "grid oracle 32 x 32"]  # a frame of 32 pixels limits every head
    values = [each[name]["avg_dice"] for each, name in zip(ceilings, names, strict=True)]
    assert values == sorted(values)
    assert values[-1] < 1


def test_a_mask_that_is_another_one_now_is_no_truth(part) -> None:
    now = {"seed": 0}
    of = part(draw=lambda shape, i: blobs(shape, i + now["seed"]))
    now["seed"] = 2
    with pytest.raises(DataChanged, match=r"made-up: a mask of the test split is another one now"):
        original_masks.true_masks(of, 0)


def test_a_part_that_is_scored_in_its_frame_has_no_masks_here(part) -> None:
    with pytest.raises(TypeError, match="The test part is not scored in original pixels"):
        original_masks.true_masks(replace(part(), originals=None), 0)


@pytest.mark.parametrize(("n", "covered"), [(len(SHAPES) - 1, "4 of the 5"), (len(SHAPES) + 1, "more than the 5")])
def test_predictions_of_fewer_or_more_images_are_refused(part, n: int, covered: str) -> None:
    with pytest.raises(UsageError, match=f"Predictions cover {covered} images of the test part"):
        list(original_masks.scored([probabilities(n)], part(), []))


def test_empty_masks_have_the_code_of_any_other() -> None:
    masks = np.zeros((3, 7, 5), bool)
    masks[1, 2:4, 1:3] = True
    assert original_masks.encode(masks) == encode(masks[None])[0]


# ------------------------------------------------------------------------------------------------------- from job to file


@pytest.fixture
def job_and_part(small, tiny):
    """A job scored in original pixels with its test part, its place, and the record and files it leaves."""
    job, place = small.one("covid-rural-linear-frozen-100", tiny("original-masks"))
    switches = job.experiment.switches.model_copy(update={"scored_in": "original"})
    job = job.model_copy(update={"experiment": job.experiment.model_copy(update={"switches": switches})})
    return job, place, load_part(job.experiment, place, "test")


def test_a_job_is_scored_there_and_scores_to_the_same_digits_from_its_file(small, job_and_part, tmp_path: Path) -> None:
    job, place, of = job_and_part
    assert load_part(job.experiment, place, "validation").originals is None
    record = small.fit(job, place, produced=tmp_path / "made")
    assert record.status == "ok", record.failure
    assert record.metrics.keys() | {warning.split(" is ")[0] for warning in record.warnings} >= BESIDE_DICE
    file, card = tmp_path / "made" / MASKS_FILE, place.card
    again = KIND.rescore(file, job, of, card)
    assert again.metrics == {name: record.metrics[name] for name in record.metrics if name not in ("pixel_ap", "image_dice_batches")}
    assert "pixel_ap" in again.undefined
    by_image = read_statistics(tmp_path / "made" / STATISTICS_FILE)
    assert fault_of_images(by_image, ByImage(of.ids, of.patients, again.statistics)) == ""
    sizes = {(frame.height, frame.width) for frame in of.originals.frames}
    masks, _, frame = read_masks(file)
    assert (masks.shape[2:], frame) == ((64, 64), "padded-64")
    assert sizes != {(64, 64)}
    _, exported = KIND.export(file, "original")
    assert b'"frame":"original"' in exported
    # A file that knows the frame alone is mapped back as it is.
    bare = tmp_path / "bare"
    bare.mkdir()
    KIND.store(bare, job, of, encode(masks))
    by_mask = KIND.rescore(bare / MASKS_FILE, job, of, card)
    assert by_mask.metrics["opacity_dice"] == pytest.approx(again.metrics["opacity_dice"], abs=0.1)


def test_a_code_of_another_size_than_the_image_names_its_row(job_and_part, tmp_path: Path) -> None:
    job, place, of = job_and_part
    codes = encode(np.zeros((len(of), 1, 64, 64), bool))
    KIND.store(tmp_path, job, of, original_masks.BothCodes(codes, codes))
    with pytest.raises(UsageError, match="the run-length code ends at pixel"):
        KIND.rescore(tmp_path / MASKS_FILE, job, of, place.card)
