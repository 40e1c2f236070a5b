"""Promises of the COVID Rural reader: annotated images only, masks of 0 and 1, and LoVT's patients in LoVT's splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import data, registry, resolve
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import SPLITS, ids_digest, open_reader
from benchmark.readers.kit.splits import check_digests, split_by_rule

CARD = registry.dataset("covid-rural")
RULE = CARD.splits["lovt"]
SHAPE = (30, 46)
TRAIN, VALIDATION, TEST = (RULE.patients[split][0] for split in SPLITS)


def stem(patient: str, day: int = 1) -> str:
    return f"{patient}_01-{day:02d}-2012-XR"


STEMS = (stem(TRAIN), stem(TRAIN, 2), stem(VALIDATION), stem(TEST))


def mask_of(k: int) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[k : k + 5, 10:20] = 1
    return mask


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small release below `covid_rural_annot` and returns the folder above it."""

    def write(stems: tuple[str, ...] = STEMS) -> Path:
        root = tmp_path / "opacity_segmentation_covid_chest_X_ray-master"
        base = root / "covid_rural_annot"
        for folder in ("jpgs/jsons", "pngs_masks"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        for k, name in enumerate(stems):
            grey = np.random.RandomState(k).randint(0, 256, SHAPE).astype(np.uint8)
            PIL.Image.fromarray(np.stack([grey] * 3, axis=-1)).save(base / "jpgs" / f"{name}.jpg", quality=95)
            PIL.Image.fromarray(mask_of(k)).save(base / "pngs_masks" / f"{name}.png")
            (base / "jpgs" / "jsons" / f"{name}.json").write_text("{}")
        return root

    return write


def verdicts(root: Path) -> dict[str, str]:
    return {c.what: c.verdict for c in open_reader(CARD, root).checks()}


# ------------------------------------------------------------------------------------------------------------------ reading


def test_the_release_opens_around_at_and_inside_its_top_folder(release: Callable[..., Path]) -> None:
    root = release()
    assert {open_reader(CARD, folder).ids for folder in (root.parent, root, root / "covid_rural_annot")} == {tuple(sorted(STEMS))}


def test_a_sample_is_grey_with_one_mask_and_the_patient_of_its_name(release: Callable[..., Path]) -> None:
    sample = open_reader(CARD, release()).sample(STEMS[2])
    image = sample.image()
    assert (image.shape, image.dtype) == (SHAPE, np.uint8)
    masks = sample.masks(image.shape)
    assert masks.dtype == np.bool_
    assert (masks == (mask_of(2)[None] == 1)).all()
    assert sample.patient_id == VALIDATION
    assert sample.boxes_xywh.shape == (0, 4)
    assert len(sample.files) == 2


def test_masks_of_zero_and_255_read_the_same(release: Callable[..., Path]) -> None:
    root = release()
    PIL.Image.fromarray(mask_of(0) * 255).save(root / "covid_rural_annot" / "pngs_masks" / f"{STEMS[0]}.png")
    assert (open_reader(CARD, root).sample(STEMS[0]).masks(SHAPE) == (mask_of(0)[None] == 1)).all()


def test_radiographs_without_an_annotation_never_count(release: Callable[..., Path]) -> None:
    root = release()
    extra = root / "covid_rural_annot" / "jpgs" / f"{stem(TRAIN, 9)}.jpg"
    PIL.Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(extra)
    reader = open_reader(CARD, root)
    assert set(reader.ids) == set(STEMS)
    assert extra not in reader.image_files()
    assert reader.warnings == []


def test_an_outline_without_a_mask_is_background_with_a_warning_that_names_no_dated_file(release: Callable[..., Path]) -> None:
    root = release()
    (root / "covid_rural_annot" / "pngs_masks" / f"{STEMS[1]}.png").unlink()
    reader = open_reader(CARD, root)
    assert set(reader.ids) == set(STEMS)
    assert len(reader.warnings) == 1
    assert "1 of 4 annotated images" in reader.warnings[0]
    assert not any(name in reader.warnings[0] for name in STEMS)
    sample = reader.sample(STEMS[1])
    assert sample.positive is False
    assert sample.masks(SHAPE).shape == (1, *SHAPE)
    assert not sample.masks(SHAPE).any()
    assert verdicts(root)["images without a mask file"] == "warning"


def test_more_missing_masks_than_known_are_an_error_in_verification(release: Callable[..., Path]) -> None:
    stems = tuple(stem(TRAIN, day) for day in range(1, 31))
    root = release(stems)
    for name in stems[:29]:
        (root / "covid_rural_annot" / "pngs_masks" / f"{name}.png").unlink()
    assert verdicts(root)["images without a mask file"] == "error"


# ------------------------------------------------------------------------------------------------------------------- errors


def test_a_mask_of_another_size_is_an_error_naming_both(release: Callable[..., Path]) -> None:
    root = release()
    PIL.Image.fromarray(mask_of(0).T.copy()).save(root / "covid_rural_annot" / "pngs_masks" / f"{STEMS[0]}.png")
    sample = open_reader(CARD, root).sample(STEMS[0])
    with pytest.raises(ImageError, match=r"46 rows x 30 columns, its image 30 x 46"):
        sample.masks(sample.image().shape)
    assert verdicts(root)["masks"] == "error"


def test_a_mask_with_other_values_is_an_error(release: Callable[..., Path]) -> None:
    root = release()
    PIL.Image.fromarray(mask_of(0) * 2).save(root / "covid_rural_annot" / "pngs_masks" / f"{STEMS[0]}.png")
    with pytest.raises(ImageError, match=f"{STEMS[0]}.*found 0, 2"):
        open_reader(CARD, root).sample(STEMS[0]).masks(SHAPE)


def test_an_annotation_without_its_radiograph_is_an_error(release: Callable[..., Path]) -> None:
    root = release()
    (root / "covid_rural_annot" / "jpgs" / f"{STEMS[3]}.jpg").unlink()
    with pytest.raises(DataError, match=f"1 of 4 images.*{STEMS[3]}"):
        open_reader(CARD, root)


def test_another_folder_is_an_error_saying_what_belongs_there(tmp_path: Path, release: Callable[..., Path]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("x")
    with pytest.raises(DataError, match="covid_rural_annot/jpgs"):
        open_reader(CARD, tmp_path / "other")
    root = release(())
    with pytest.raises(DataError, match="no mask in"):
        open_reader(CARD, root)
    with pytest.raises(DataError, match=r"no image .* is among the 4 images"):
        open_reader(CARD, release()).sample("COVID-19-AR-1_x")


# ------------------------------------------------------------------------------------------------------------------- splits


def test_splits_hold_what_exists_of_the_cards_patients(release: Callable[..., Path]) -> None:
    splits = open_reader(CARD, release()).split(RULE)
    assert splits == {"train": STEMS[:2], "validation": STEMS[2:3], "test": STEMS[3:]}


def test_unlisted_patients_are_in_no_split_and_verification_says_so(release: Callable[..., Path]) -> None:
    root = release((*STEMS, stem("COVID-19-AR-99999999")))
    reader = open_reader(CARD, root)
    assert sum(map(len, reader.split(RULE).values())) == 4
    found = {c.what: c for c in reader.checks()}
    assert (found["lovt images in no split"].found, found["lovt images in no split"].verdict) == ("1", "error")
    assert found["lovt train: images"].verdict == "error"


def test_a_folder_without_one_listed_patient_is_an_error(release: Callable[..., Path]) -> None:
    with pytest.raises(SplitError, match="COVID-19-AR-99999999"):
        open_reader(CARD, release((stem("COVID-19-AR-99999999"),))).split(RULE)


def test_a_phantom_is_verified_against_its_own_manifest(release: Callable[..., Path]) -> None:
    root = release()
    manifest = {"counts": {"images": 4, "patients": 3}, "digests": {"ids_sha256_sorted": ids_digest(STEMS)}}
    (root / "PHANTOM.json").write_text(json.dumps(manifest))
    assert open_reader(CARD, root).verify().ok
    base = root / "covid_rural_annot"
    for path in (base / "jpgs" / f"{STEMS[3]}.jpg", base / "jpgs/jsons" / f"{STEMS[3]}.json", base / "pngs_masks" / f"{STEMS[3]}.png"):
        path.unlink()
    assert len([c for c in open_reader(CARD, root).verify().checks if c.verdict == "error"]) == 3


def test_the_cards_patient_lists_are_complete_and_disjoint() -> None:
    assert [len(RULE.patients[s]) for s in SPLITS] == [63, 23, 18]
    assert len({p for s in SPLITS for p in RULE.patients[s]}) == 104


def test_the_real_stems_reproduce_the_published_digests(real_files: Path) -> None:
    stems = sorted(line for s in SPLITS for line in (real_files / "lovt_splits/covid-rural" / f"{s}.csv").read_text().split()[1:])
    splits = split_by_rule(stems, RULE, lambda i: i.split("_")[0])
    checks = check_digests(splits, RULE.expected, patient_of=lambda i: i.split("_")[0])
    assert len(checks) == 9
    assert [c for c in checks if c.verdict != "ok"] == []


# -------------------------------------------------------------------------------------------------------- patients of nobody's lists


def lists_of(ids: tuple[str, ...], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for k, split in enumerate(SPLITS):
        (folder / f"{split}.csv").write_text("\n".join(["ID", *ids[k::3]]) + "\n")
    return folder


def test_lists_of_ones_own_split_patients_that_the_card_does_not_list(release: Callable[..., Path], tmp_path: Path) -> None:
    """The card's patients are LoVT's; with lists given nobody needs them, and every check of the folder and of the lists is made."""
    root = release(tuple(stem(f"COVID-19-AR-9999999{k}") for k in range(6)))
    reader = open_reader(CARD, root)
    folder = lists_of(reader.ids, tmp_path / "lists" / CARD.name)
    found = resolve.dataset(CARD, root, registry.protocol("published"), lists=folder, limit=4)
    assert (found.ref.split, found.sizes.train, found.sizes.test) == ("lists", 2, 2)
    assert not found.known_release  # an unlimited job needs the release: counts are other
    with pytest.raises(SplitError, match="None of the 6 patients"):
        resolve.dataset(CARD, root, registry.protocol("published"), limit=4)
    (line,) = data.verify([CARD.name], [f"{CARD.name}={root}"], tmp_path / "lists")
    told = {check.what: check.verdict for check in line.checks}
    assert told["masks"] == "ok"
    assert told["split lovt"] == "error"
    assert (told["split lists"], told["split lists: patients in train and test"]) == ("ok", "ok")
    assert "further checks" not in told


def test_lists_of_other_images_do_not_end_the_checks_of_lists(release: Callable[..., Path], tmp_path: Path) -> None:
    root = release()
    lists_of((*STEMS, "stranger", STEMS[0]), tmp_path / "lists" / CARD.name)
    (line,) = data.verify([CARD.name], [f"{CARD.name}={root}"], tmp_path / "lists")
    told = {check.what: check for check in line.checks}
    assert (told["split lists"].verdict, "stranger" in told["split lists"].hint) == ("error", True)
    assert told["split lists: images in two splits"].found == "1"
