"""Failures that give a plausible number instead of a crash. Each is provoked through public functions and must be caught.

Rooms test their own promises; here stand the ways in which a whole run could lie, side by side.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark import registry, resolve
from benchmark.cards import Record, SplitRule
from benchmark.contents import sha256_of
from benchmark.encoders.build import build_backbone
from benchmark.errors import (
    CheckpointChanged,
    CheckpointError,
    ConformanceError,
    DataChanged,
    DataError,
    FrameMismatch,
    ImageChanged,
    ImageError,
    SplitError,
    StoreError,
    TrainingError,
    UsageError,
)
from benchmark.events import EpochEnded, Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units
from benchmark.integrity import sealed
from benchmark.metrics import scores
from benchmark.metrics.boxes import Detections
from benchmark.readers.base import open_reader
from benchmark.report.rows import rows_of
from benchmark.store import Store
from benchmark.training import data
from benchmark.training import fit as fitting
from benchmark.training.options import RunOptions
from benchmark.training.shared_work import SharedWork
from tests.corpora import CorpusPlan, write_corpus

LINEAR, DETECTION, MASKS = "rsna-linear-frozen-100", "rsna-yolov3-frozen-100", "covid-rural-linear-frozen-100"


def run(jobs, places) -> list:
    return [e.record for e in InlineExecutor().run(Schedule(units(jobs, places))) if isinstance(e, Finished)]


@pytest.fixture
def own(corpora: Path, tmp_path: Path):
    """A private copy of a phantom, to be damaged."""

    def copy(name: str, to: str = "data") -> Path:
        return shutil.copytree(corpora / name, tmp_path / to / name).parent

    return copy


# ---------------------------------------------------------------------------------------------------- weights not loaded


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    from benchmark.encoders.torchvision import build

    return build("resnet18").network.state_dict()


@pytest.mark.parametrize(
    ("rename", "sentence"),
    [
        (lambda name: f"visual.{name}", r"With the prefix 'visual\.' \d+ tensors would fit: try --layout prefix:visual\."),
        (lambda name: name.replace("layer", "block"), r"layer1\.0\.conv1\.weight"),
        (lambda name: name[::-1], "No prefix makes any tensor fit: is this file of another architecture"),
    ],
    ids=["renamed prefix", "renamed blocks", "nothing matches"],
)
def test_weights_that_do_not_arrive_in_the_encoder_give_a_failed_record_not_a_random_backbones_number(
    small, resnet18, tmp_path: Path, rename, sentence
):
    file = tmp_path / "weights.safetensors"
    save_file({rename(name): tensor.clone() for name, tensor in resnet18.items()}, file)
    backbone = resolve.backbone(f"torchvision:resnet18@{file}", tmp_path / "cache")
    (record,) = run(*small.plan(LINEAR, [backbone]))
    assert record.status == "failed"
    assert not record.metrics
    import re

    assert re.search(sentence, record.failure.sentence)


def test_a_checkpoint_replaced_after_planning_is_not_evaluated_under_the_old_digest(small, resnet18, tmp_path: Path):
    planned, other = (
        {name: tensor * by if tensor.is_floating_point() else tensor for name, tensor in resnet18.items()} for by in (0.5, 0.75)
    )
    file = tmp_path / "weights.safetensors"
    save_file(planned, file)
    jobs, places = small.plan(LINEAR, [resolve.backbone(f"torchvision:resnet18@{file}", tmp_path / "cache")])
    save_file(other, file)
    (record,) = run(jobs, places)
    assert (record.status, record.failure.kind, record.failure.environment) == ("failed", CheckpointChanged.__name__, True)
    save_file(planned, file)
    assert [record.status for record in run(jobs, places)] == ["ok"]


def test_a_folder_configured_anew_after_planning_is_not_evaluated_under_the_old_configuration(small, tmp_path: Path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    config = tmp_path / "net" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"model_type": "dinov2", **sizes}))
    jobs, places = small.plan(LINEAR, [resolve.backbone(f"hf:{config.parent}", tmp_path / "cache")])
    assert [record.status for record in run(jobs, places)] == ["ok"]
    config.write_text(json.dumps({"model_type": "dinov2", **sizes, "num_hidden_layers": 3}))
    (record,) = run(jobs, places)
    assert (record.status, record.failure.kind) == ("failed", "CheckpointChanged")
    assert "not the one the job was planned with: config.json differs" in record.failure.sentence


def test_two_backbones_under_one_label_are_each_evaluated_and_told_apart(small, tiny, tmp_path: Path):
    files = [tiny("one"), tiny("two", at_build="torch.manual_seed(6)")]
    planned = [small.one(MASKS, file) for file in files]
    alone = [small.fit(job, place, learning_rate=job.experiment.learning_rate).metrics for job, place in planned]
    assert alone[0] != alone[1]
    jobs, places = small.plan(MASKS, [small.backbone(file, label="mine:build") for file in files])
    records = run(jobs, places)
    assert [r.metrics for r in records] == alone
    rows = rows_of(records)
    assert len(rows) == 2
    assert len({row.label for row in rows}) == 2
    assert all(row.n_ok == 1 for row in rows)


# ------------------------------------------------------------------------------------------------- an encoder not frozen


def test_batchnorm_in_train_mode_in_a_frozen_task_is_named(small, tiny):
    with pytest.raises(ConformanceError, match=r"tiny: pyramid\(\) .*(eval mode|alone than in a batch)"):
        small.fit(*small.one(LINEAR, tiny(at_pyramid="self.train()")))


def test_batchnorm_that_turns_to_train_mode_later_is_noticed_by_its_statistics(small, tiny):
    # Passes the contract, which shows it two images at a time, and turns with the first batch of training.
    later = "len(images) > 2 and self.train()"
    with pytest.raises(TrainingError, match=r"encoder of a frozen task changed .*running_mean"):
        small.fit(*small.one(LINEAR, tiny(at_pyramid=later)))


def test_weights_of_a_frozen_encoder_that_an_optimiser_moved_are_noticed(small, tiny, monkeypatch):
    from benchmark.training.model import Model

    def everything(self, finetune):
        # The bug: the encoder is handed to the optimiser of a frozen task, whose weight decay then moves it.
        for parameter in self.encoder.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return torch.nn.ModuleList([self.head, self.encoder])

    monkeypatch.setattr(Model, "trained_modules", everything)
    monkeypatch.setattr(
        "torch.optim.Adam.zero_grad",
        lambda self, set_to_none=True: [p.grad.zero_() for g in self.param_groups for p in g["params"] if p.grad is not None],
    )
    with pytest.raises(TrainingError, match="encoder of a frozen task changed while the head was trained"):
        small.fit(*small.one(LINEAR, tiny()))


# ------------------------------------------------------------------------------------------------------ swapped geometry


def perfect(part: data.Part, xywh: np.ndarray | None = None) -> Detections:
    truth = part.truth()
    return Detections(**{**vars(truth), "xywh": truth.xywh if xywh is None else xywh}, confidence=np.ones(len(truth.image)))


def test_truth_as_prediction_is_perfect_and_swapped_width_and_height_is_not(small, tiny):
    job, place = small.one(DETECTION, tiny(), size=224)
    part = data.load_part(job.experiment, place, "train")
    assert all(abs(b[2] - b[3]) > 1 for boxes in part.boxes for b in boxes)
    found = scores.score_detection(perfect(part), part.truth(), ("opacity",)).metrics
    assert (found["mAP"], found["coco_AP"], found["froc"]) == (1, 1, 1)
    for swapped in ([0, 1, 3, 2], [1, 0, 2, 3], [1, 0, 3, 2]):
        wrong = scores.score_detection(perfect(part, part.truth().xywh[:, swapped]), part.truth(), ("opacity",)).metrics
        assert wrong["mAP"] < 0.9, swapped
        assert wrong["coco_AP"] < 0.9, swapped


def test_boxes_and_pixels_lie_in_one_frame_on_images_that_are_not_square(small, tiny):
    """The mask of the stored polygon, through padding and resizing, must cover the box of the same polygon: no axis is swapped."""
    job, place = small.one(MASKS, tiny(), size=224)
    part = data.load_part(job.experiment, place, "train")
    frames = part.cache.frames(part.rows)
    assert all(frame.width != frame.height for frame in frames)
    reader = open_reader(place.card, place.dataset_root)
    for i, frame in enumerate(frames):
        original = reader.sample(part.ids[i]).masks((frame.height, frame.width))[0]
        if not original.any():
            continue
        rows, columns = np.nonzero(original)
        box = np.array([[columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]])
        x, y, w, h = frame.to_frame(box)[0]
        rows, columns = np.nonzero(part.masks(np.array([i]))[0, 0])
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == pytest.approx([x, y, x + w, y + h], abs=1.5)


def test_a_metric_over_another_frame_is_refused(small, tiny):
    job, place = small.one(DETECTION, tiny(), size=224)
    part = data.load_part(job.experiment, place, "train")
    original = dataclasses.replace(perfect(part), frame="original")
    with pytest.raises(FrameMismatch, match=r"'original'.*'padded-224'"):
        scores.score_detection(original, part.truth(), ("opacity",))


def test_a_metric_over_fewer_images_is_refused(small, tiny):
    job, place = small.one(DETECTION, tiny(), size=224)
    part = data.load_part(job.experiment, place, "train")
    with pytest.raises(FrameMismatch, match="cover 11 images, ground truth 12"):
        scores.score_detection(dataclasses.replace(perfect(part), n_images=11), part.truth(), ("opacity",))


# ------------------------------------------------------------------------------------------------------ masks and pixels


def mask_files(root: Path) -> list[Path]:
    found = []
    for path in sorted((root / "covid-rural").rglob("*.png")):
        with Image.open(path) as picture:
            if picture.mode in ("1", "L", "P") and len(np.unique(np.asarray(picture))) == 2:
                found.append(path)
    return found


def with_palette(path: Path, palette: list[int]) -> None:
    with Image.open(path) as picture:
        values = (np.asarray(picture) > 0).astype(np.uint8)
    written = Image.fromarray(values, mode="P")
    written.putpalette(palette)
    written.save(path)


def masks_of(small, tiny, root: Path, name: str) -> np.ndarray:
    job, place = small.one(MASKS, tiny(name), root=root)
    part = data.load_part(job.experiment, place, "train")
    return part.masks(np.arange(len(part)))


def test_masks_saved_with_a_palette_are_the_same_masks(small, tiny, own):
    root = own("covid-rural")
    before = masks_of(small, tiny, root, "before")
    files = mask_files(root)
    assert len(files) > 3
    for path in files:
        # Palette 0 black, 1 nearly black: looked through and thresholded, every mask would be empty.
        with_palette(path, [0, 0, 0, 1, 1, 1])
    after = masks_of(small, tiny, root, "after")
    assert before.any()
    assert np.array_equal(before, after)


def test_masks_whose_palette_is_turned_around_are_refused(small, tiny, own):
    root = own("covid-rural")
    for path in mask_files(root):
        with_palette(path, [255, 255, 255, 0, 0, 0])
    with pytest.raises((ImageError, DataError), match="palette entry 0 is not black"):
        masks_of(small, tiny, root, "turned")


# ------------------------------------------------------------------------------------------------------------- leaks, order


def test_test_images_in_training_stop_the_job(small, tiny):
    card = registry.dataset("covid-rural")
    lists = {name: tuple(patients) for name, patients in card.splits["lovt"].patients.items()}
    leaking = lists | {"train": lists["train"] + lists["test"][:2]}
    rule = SplitRule(rule="patient-lists", patients=leaking)
    jobs, places = small.plan(MASKS, [tiny()], data={"split_rule": rule})
    (place,) = places.values()
    with pytest.raises(SplitError):  # so a plan of such a rule is none; one that comes to a worker all the same is not that of its files
        open_reader(card, place.dataset_root).split(rule)
    (record,) = run(jobs, places)
    assert (record.status, record.failure.kind) == ("failed", DataChanged.__name__)
    assert lists["test"][0] in record.failure.sentence or lists["test"][1] in record.failure.sentence


def test_a_reader_whose_split_leaks_stops_the_job(small, tiny, monkeypatch):
    from benchmark.readers.rsna import DatasetReader

    split = DatasetReader.split
    monkeypatch.setattr(DatasetReader, "split", lambda self, rule: {**(s := split(self, rule)), "train": s["train"] + s["test"][:1]})
    (record,) = run(*small.plan(LINEAR, [tiny()]))
    assert record.failure.kind == SplitError.__name__
    assert "tested on" in record.failure.sentence


def test_a_label_file_in_another_order_gives_another_first_percent_and_is_no_known_release(small, tiny, own):
    """Budgets are prefixes of the list; a sorted copy keeps every count and changes every prefix."""
    root = own("rsna")
    labels = root / "rsna" / "stage_2_train_labels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *sorted(rows)]) + "\n")
    job, place = small.one(LINEAR, tiny(), root=root, limit=None, batch_size=4)
    assert not place.known_release
    with pytest.raises(DataError, match="not the public release"):
        small.fit(job, place)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_a_label_fraction_that_is_no_prefix_is_refused(small, tiny, fraction):
    (record,) = run(*small.plan(LINEAR, [tiny()], card={"fraction": fraction}))
    assert record.failure.kind == SplitError.__name__


# ------------------------------------------------------------------------------------------------------------------ seeds


def test_seeds_that_change_nothing_are_said_in_the_row(small, tiny, monkeypatch):
    from benchmark.heads.base import seeded_init

    jobs, places = small.plan(MASKS, [tiny()], runs=3, card={"report": "pixel_ap"})
    honest = rows_of(run(jobs, places))[0]
    assert not any("identical results" in w for w in honest.warnings)
    # The bug: every head is drawn from one seed, and the released code already keeps one order of images.
    monkeypatch.setattr(fitting, "seeded_init", lambda make, seed: seeded_init(make, 7))
    records = run(jobs, places)
    assert len({r.job.experiment.head_seed for r in records}) == 3
    (row,) = rows_of(records)
    assert any("identical results from different seeds (runs 1, 2, 3)" in w for w in row.warnings)


# ---------------------------------------------------------------------------------------------------------- stale caches


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def equal_size_pair(root: Path, ids) -> tuple[Path, Path]:
    """Two image files padded to one size, so that exchanging them changes no digest of names and sizes."""
    one, other = (root / "rsna" / "stage_2_train_images" / f"{i}.dcm" for i in ids)
    longer = max(one.stat().st_size, other.stat().st_size)
    for path in (one, other):
        missing = longer - path.stat().st_size
        # A private element after the pixels keeps the picture as it is.
        import pydicom

        held = pydicom.dcmread(path)
        held.add_new((0x7FE1, 0x0010), "LO", "PADDING")
        held.add_new((0x7FE1, 0x1001), "OB", b"\0" * (missing + missing % 2))
        held.save_as(path)
    assert one.stat().st_size == other.stat().st_size
    return one, other


def test_a_cache_of_a_file_that_changed_later_is_not_used(small, tiny, own):
    root = own("rsna")
    file = tiny()
    job, place = small.one(LINEAR, file, root=root)
    ids = data.load_part(job.experiment, place, "train").ids[:2]
    one, other = equal_size_pair(root, ids)
    job, place = small.one(LINEAR, file, root=root)
    before = data.load_part(job.experiment, place, "train")
    pixels, digest = before.images(np.arange(2)).clone(), before.files_digest()
    swap(one, other)
    again, place = small.one(LINEAR, file, root=root)
    assert again.key != job.key  # though names and sizes are the same
    after = data.load_part(again.experiment, place, "train")
    assert torch.equal(after.images(np.arange(2)), pixels.flip(0))
    assert after.files_digest() != digest


def test_images_inverted_in_place_are_another_dataset_with_results_of_its_own(small, tiny, tmp_path: Path):
    """Uncompressed DICOM keeps its size for any content; here it keeps its modification time as well."""
    import pydicom

    root, file, task = tmp_path / "data", tiny(), "vindr-cxr-linear-frozen-100-lobe"
    write_corpus(CorpusPlan("vindr-cxr", 14, seed=3, images_per_patient=(1, 1), positive_share=0.5), root / "vindr-cxr")

    def evaluated(cache: str):
        jobs, places = small.plan(task, [file], root=root)
        (record,) = run(jobs, {key: dataclasses.replace(place, cache=tmp_path / cache / "images") for key, place in places.items()})
        assert record.status == "ok", record.failure
        return record

    first, again = evaluated("one"), evaluated("one")
    for path in sorted((root / "vindr-cxr").rglob("*.dicom")):
        before, held = path.stat(), pydicom.dcmread(path)
        held.PixelData = (65_535 - held.pixel_array.astype(np.int64)).astype(np.uint16).tobytes()
        held.save_as(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second, elsewhere = evaluated("one"), evaluated("another")
    assert first.key == again.key != second.key == elsewhere.key
    assert first.metrics == again.metrics
    assert first.metrics["pixel_ap"] != second.metrics["pixel_ap"]
    assert second.metrics == elsewhere.metrics


def test_an_image_that_is_not_what_the_release_lists_fails_its_job_and_no_other_file_is_read_for_it(small, tiny, own):
    """The list stands for content when jobs are planned; each image is held to it when it is decoded."""
    root = own("rsna")
    images = sorted((root / "rsna" / "stage_2_train_images").glob("*.dcm"))
    listed = [f"{sha256_of(path)} {path.relative_to(root / 'rsna')}" for path in images]
    unlisted, _ = small.one(LINEAR, tiny(), root=root)
    (root / "rsna" / "SHA256SUMS.txt").write_text("\n".join(listed))
    (job,), places = small.plan(LINEAR, [tiny("again")], root=root)
    assert job.experiment.dataset == unlisted.experiment.dataset
    assert [record.status for record in run([job], places)] == ["ok"]
    found = data.choose(job.experiment, open_reader(registry.dataset("rsna"), root / "rsna"))["test"][0]
    held = found.files[0].read_bytes()
    found.files[0].write_bytes(b"\0" * len(held))
    assert small.one(LINEAR, tiny("later"), root=root)[0].experiment.dataset == job.experiment.dataset
    (record,) = run([job], places)
    assert (record.status, record.failure.kind, record.failure.environment) == ("failed", ImageChanged.__name__, True)
    assert f"SHA256SUMS.txt line {images.index(found.files[0]) + 1}: SHA-256" in record.failure.sentence
    found.files[0].write_bytes(held)
    assert [record.status for record in run([job], places)] == ["ok"]


def test_an_image_swapped_after_planning_by_one_of_another_size_stops_the_job(small, tiny, own):
    root = own("rsna")
    jobs, places = small.plan(LINEAR, [tiny()], root=root)
    place = places[jobs[0].key]
    one, other = (root / "rsna" / "stage_2_train_images" / f"{i}.dcm" for i in data.load_part(jobs[0].experiment, place, "train").ids[:2])
    assert one.stat().st_size != other.stat().st_size
    swap(one, other)
    (record,) = run(jobs, places)
    assert (record.status, record.failure.kind, record.failure.environment) == ("failed", DataChanged.__name__, True)
    assert "not those the job was planned with" in record.failure.sentence
    swap(one, other)
    assert [record.status for record in run(jobs, places)] == ["ok"]


def test_an_image_swapped_while_a_job_runs_stops_it(small, tiny, own):
    root, file = own("rsna"), tiny()
    job, place = small.one(LINEAR, file, root=root)
    one, other = equal_size_pair(root, data.load_part(job.experiment, place, "train").ids[:2])
    job, place = small.one(LINEAR, file, root=root)
    steps = fitting.fit(job, place, RunOptions(), 1e-2, SharedWork())
    assert any(isinstance(step, EpochEnded) for step in steps)
    swap(one, other)
    again, elsewhere = small.one(LINEAR, file, root=root)
    data.load_part(again.experiment, elsewhere, "train")  # another job of the same folder decodes the file anew
    with pytest.raises(DataChanged, match="changed while the job ran"):
        list(steps)


def test_an_image_swapped_between_runs_by_one_of_the_same_size_stops_the_next_run(small, tiny, own):
    root, file = own("rsna"), tiny()
    job, place = small.one(LINEAR, file, root=root)
    one, other = equal_size_pair(root, data.load_part(job.experiment, place, "train").ids[:2])
    jobs, places = small.plan(LINEAR, [file], root=root, runs=2)
    assert [record.status for record in run(jobs[:1], places)] == ["ok"]
    swap(one, other)
    (record,) = run(jobs[1:], places)
    assert "not those the job was planned with" in record.failure.sentence
    assert record.failure.environment


def test_runs_of_an_earlier_release_on_other_bytes_are_said_in_the_row(small, tiny):
    """Its keys knew names and sizes alone."""
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    first, second = run(jobs, places)
    assert not any("changed between runs" in w for w in rows_of([first, second])[0].warnings)
    second = second.model_copy(update={"sample_digests": second.sample_digests | {"train files": "0" * 64}})
    (row,) = rows_of([first, second])
    assert any("image files of train changed between runs" in w for w in row.warnings)


def test_an_image_replaced_between_planning_and_decoding_stores_nothing(small, tiny, own, monkeypatch):
    """Hashing is over, decoding has not come to the file yet: no key may stand for these pixels."""
    root = own("rsna")
    jobs, places = small.plan(LINEAR, [tiny()], root=root)
    place = places[jobs[0].key]
    found = data.choose(jobs[0].experiment, open_reader(place.card, place.dataset_root))["train"][:2]
    one, other = equal_size_pair(root, [s.id for s in found])
    jobs, places = small.plan(LINEAR, [tiny("again")], root=root)
    known = data.open_known

    def replaced_after(experiment, place):
        reader, contents = yield from known(experiment, place)
        swap(one, other)
        return reader, contents

    monkeypatch.setattr(data, "open_known", replaced_after)
    (record,) = run(jobs, places)
    assert (record.status, record.failure.kind, record.metrics) == ("failed", ImageChanged.__name__, {})
    assert "not what the job was planned with" in record.failure.sentence
    assert "run the same command again" in record.failure.sentence
    assert record.failure.environment
    monkeypatch.setattr(data, "open_known", known)
    swap(one, other)
    assert [record.status for record in run(jobs, places)] == ["ok"]


@pytest.mark.parametrize("name", ["images.u8", "masks.bits", "rows.bin"])
def test_an_inverted_cache_changes_no_metric_and_is_said(small, tiny, tmp_path: Path, name: str):
    job, place = small.one(LINEAR, tiny())
    place = dataclasses.replace(place, cache=tmp_path / "private" / "images")
    first = small.fit(job, place)
    (file,) = place.cache.glob(f"*/{name}")
    file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))
    second = small.fit(job, place, produced=tmp_path / "second")
    assert (second.metrics, second.sample_digests, second.curve) == (first.metrics, first.sample_digests, first.curve)
    assert any("rows of the image cache were damaged" in warning for warning in second.warnings)


def test_a_cache_of_another_dataset_with_equal_ids_is_another_cache(small, tiny, own):
    """Two copies that share every id: one with its images mirrored. Neither sees the other's pixels, whoever comes first."""
    import pydicom

    plain, mirrored = own("rsna", "plain"), own("rsna", "mirrored")
    for path in (mirrored / "rsna" / "stage_2_train_images").glob("*.dcm"):
        held = pydicom.dcmread(path)
        pixels = held.pixel_array[:, ::-1].copy()
        held.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        held.PixelData = pixels.tobytes()
        held["PixelData"].VR = "OW"
        held["PixelData"].is_undefined_length = False
        held.save_as(path)
    file = tiny()
    parts = []
    for root in (plain, mirrored, plain):
        job, place = small.one(LINEAR, file, root=root)
        parts.append(data.load_part(job.experiment, place, "train"))
    first, second, third = (part.images(np.arange(3)) for part in parts)
    assert parts[0].ids == parts[1].ids
    assert parts[0].cache.path != parts[1].cache.path
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


# ----------------------------------------------------------------------------------------------------------------- records


@pytest.fixture
def stored(small, tiny, tmp_path: Path):
    job, place = small.one(MASKS, tiny(), size=224)
    record = small.fit(job, place, produced=tmp_path / "produced")
    files = {p.name: p.read_bytes() for p in (tmp_path / "produced").iterdir()}
    return Store(tmp_path / "out").put(record, files)


@pytest.mark.parametrize("change", [{"limit": 500}, {"fraction": 0.1}, {"head": "unet"}, {"threads": 2}])
def test_a_record_of_an_edited_job_is_no_result(stored, tmp_path: Path, change):
    path = Store(tmp_path / "out").path(stored.key)
    raw = json.loads(path.read_text())
    raw["job"]["experiment"] |= change
    path.write_text(json.dumps(raw))
    with pytest.raises(StoreError, match="does not belong to its key"):
        Store(tmp_path / "out").all()


def test_a_record_put_under_the_name_of_another_job_is_no_result(stored, tmp_path: Path):
    store = Store(tmp_path / "out")
    os.rename(store.path(stored.key), store.path("0" * 32))
    with pytest.raises(StoreError, match="does not belong to its key"):
        store.get("0" * 32)


def test_predictions_scored_on_another_split_are_refused(stored, corpora: Path, tmp_path: Path):
    from benchmark.submission.score import scorer

    file = tmp_path / "out" / "predictions" / stored.key / "masks.parquet"
    again = scorer(MASKS, [str(corpora)], tmp_path / "scoring", "published", 12).score(file)
    assert again.metrics["opacity_dice"] == stored.metrics["opacity_dice"]
    with pytest.raises(UsageError, match="made for another dataset"):
        scorer(LINEAR, [str(corpora)], tmp_path / "scoring", "published", 12).score(file)


def test_a_number_edited_in_a_record_is_no_result_and_its_predictions_score_to_their_own(stored, corpora: Path, tmp_path: Path):
    """Whoever counts the checksum anew changes the record's number; what its predictions score stays."""
    from benchmark.submission.score import scorer

    store = Store(tmp_path / "out")
    path, file = store.path(stored.key), tmp_path / "out" / stored.predictions[1]
    raw = json.loads(path.read_text())
    raw["metrics"]["opacity_dice"] = 0.99
    path.write_text(json.dumps(raw))
    with pytest.raises(StoreError, match="its content is not what its checksum says"):
        store.get(stored.key)
    path.write_text(sealed(Record.model_validate(raw)).model_dump_json())
    claimed = store.get(stored.key)
    again = scorer(MASKS, [str(corpora)], tmp_path / "scoring", "published", 12).score(file)
    assert again.metrics["opacity_dice"] == stored.metrics["opacity_dice"] != claimed.metrics["opacity_dice"]
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(StoreError, match=r"masks.parquet is not the file that was stored"):
        scorer(MASKS, [str(corpora)], tmp_path / "scoring", "published", 12).score(file)


def test_a_reference_with_weights_is_never_built_without_them(small, tiny):
    job, _ = small.one(LINEAR, tiny())
    ref = job.experiment.backbone.model_copy(update={"family": "torchvision", "model": "resnet18"})
    with pytest.raises(CheckpointError, match="no file was given"):
        build_backbone(ref, None, init_seed=1)
