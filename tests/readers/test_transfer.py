"""Promises of transfer datasets: training from one release, the test from another, classes merged by name, and no way to mix them up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark import data, registry, resolve
from benchmark.cards import BackboneRef, Contamination, DatasetRef
from benchmark.contents import Memory, drained
from benchmark.errors import CardError, DataError, ImageError, SplitError
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.readers import transfer
from benchmark.readers.base import Check, Sample, open_reader
from benchmark.readers.kit import identity
from benchmark.readers.transfer import STRICTEST
from tests.corpora import CorpusPlan, write_corpus

RSNA_VINDR, SIIM_CANDID = registry.dataset("rsna-to-vindr-cxr"), registry.dataset("siim-to-candid-ptx")
CARDS = [card for card in registry.datasets().values() if card.parts]
VINDR = registry.dataset("vindr-cxr")
CONSOLIDATION, INFILTRATION, NODULE, OPACITY = (
    VINDR.classes.index(name) for name in ("Consolidation", "Infiltration", "Nodule/Mass", "Lung Opacity")
)
SHAPE = (40, 60)  # wider than high so that a swap shows


def boxed(sample_id: str, boxes: list[tuple[int, tuple[float, ...]]], n_classes: int) -> Sample:
    """A sample with these (class, xywh) boxes, whose masks are the filled boxes."""
    xywh = np.array([box for _, box in boxes], np.float64).reshape(-1, 4)
    labels = np.array([label for label, _ in boxes], np.int64)

    def masks(shape: tuple[int, int]) -> np.ndarray:
        drawn = np.zeros((n_classes, *shape), bool)
        for label, (x, y, w, h) in boxes:
            drawn[label, int(y) : int(y + h), int(x) : int(x + w)] = True
        return drawn

    return Sample(
        id=sample_id,
        patient_id=f"p{sample_id[0]}",
        image=lambda: np.zeros(SHAPE, np.uint8),
        masks=masks,
        boxes_xywh=xywh,
        box_labels=labels,
        files=(),
        positive=len(boxes) > 0,
        report="no word of this",
        view="PA",
    )


class Part:
    """Stands for a release: samples and splits in memory."""

    names_files = True

    def __init__(self, card, samples, splits, *, digest="d", phantom=None):
        self.card, self.splits, self.phantom, self.release, self.warnings = card, splits, phantom, "in memory", [f"about {card.name}"]
        self.samples = {s.id: s for s in samples}
        self.outline_digest = lambda: digest
        self.decided = lambda: ""

    ids = property(lambda self: tuple(self.samples))

    def sample(self, sample_id):
        return self.samples[sample_id]

    def split(self, rule):
        return self.splits

    def checks(self):
        return [Check("images", "1", "1", "ok"), Check("boxes", "2", "3", "error")]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Opens the transfer from RSNA to VinDr-CXR on two releases in memory; the same ids stand in both."""

    def build(found=((OPACITY, (10, 20, 20, 10)),), card=RSNA_VINDR, **changes):
        parts = {
            "rsna": Part(
                registry.dataset("rsna"),
                [boxed("a", [(0, (1, 2, 3, 4))], 1), boxed("b", [], 1), boxed("c", [], 1)],
                {"train": ("c", "a"), "validation": ("b",), "test": ()},
                **changes.get("rsna", {}),
            ),
            "vindr-cxr": Part(
                VINDR,
                [boxed("a", list(found), 14), boxed("b", [], 14)],
                {"train": ("b",), "validation": (), "test": ("a",)},
                **changes.get("vindr", {}),
            ),
        }
        for name in parts:
            (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(transfer, "open_reader", lambda part, folder, shapes: parts[part.name])
        return open_reader(card, tmp_path)

    return build


# ------------------------------------------------------------------------------------------------------------------ the cards


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_is_as_strict_as_the_stricter_agreement_and_names_both(card):
    train, test = (registry.dataset(card.parts[role]) for role in ("train", "test"))
    assert STRICTEST.index(card.redistribution) == max(STRICTEST.index(train.redistribution), STRICTEST.index(test.redistribution))
    assert card.name == f"{train.name}-to-{test.name}"
    assert card.patients_known == test.patients_known
    both = set(train.targets) & set(test.targets) | {"boxes"}
    assert set(card.targets) <= both or (card.targets, train.targets) == (("labels-to-masks",), ("labels",))
    for rule in card.splits.values():
        named = transfer._RULE.fullmatch(rule.rule)
        assert named["train"] in train.splits
        assert named["test"] in test.splits


def test_every_transfer_task_names_a_parent_and_no_published_cell():
    tasks = [task for task in registry.tasks().values() if task.dataset in {card.name for card in CARDS}]
    assert {task.dataset for task in tasks} == {card.name for card in CARDS}
    assert {*registry.suite("transfer").tasks} <= {task.id for task in tasks}
    assert all(task.parent in registry.tasks() and task.published is None and task.id.endswith("-lobe") for task in tasks)


# ------------------------------------------------------------------------------------------------------------------ samples


def test_training_comes_from_one_dataset_and_the_test_from_the_other(opened):
    reader = opened()
    splits = reader.split(RSNA_VINDR.splits["lovt-to-benchx"])
    assert splits == {"train": ("rsna/c", "rsna/a"), "validation": ("rsna/b",), "test": ("vindr-cxr/a",)}
    assert reader.ids == ("rsna/a", "rsna/b", "rsna/c", "vindr-cxr/a", "vindr-cxr/b")


def test_equal_ids_and_patients_of_both_datasets_are_never_one(opened):
    reader = opened()
    mine, other = reader.sample("rsna/a"), reader.sample("vindr-cxr/a")
    assert (mine.id, other.id) == ("rsna/a", "vindr-cxr/a")
    assert (mine.patient_id, other.patient_id) == ("rsna/pa", "vindr-cxr/pa")
    assert (mine.boxes_xywh.tolist(), other.boxes_xywh.tolist()) == ([[1, 2, 3, 4]], [[10, 20, 20, 10]])


@pytest.mark.parametrize("sample_id", ["a", "rsna", "rsna/", "siim/a"])
def test_an_id_of_neither_release_is_an_error(opened, sample_id):
    with pytest.raises(DataError, match="ids start with rsna/ or vindr-cxr/"):
        opened().sample(sample_id)


def test_a_release_without_masks_is_named(opened):
    reader = opened()
    sample_id = reader.ids[0]
    release, own = reader._release_of(sample_id)
    release.samples[own] = replace(release.samples[own], masks=None)
    with pytest.raises(DataError, match=f"{release.card.name} has no masks"):
        reader.sample(sample_id)


def test_merged_classes_are_one_in_boxes_and_masks_and_others_are_no_finding(opened):
    found = [(CONSOLIDATION, (0, 0, 5, 5)), (NODULE, (30, 30, 5, 5)), (INFILTRATION, (40, 10, 15, 5))]
    sample = opened(found).sample("vindr-cxr/a")
    assert sorted(sample.boxes_xywh.tolist()) == [[0, 0, 5, 5], [40, 10, 15, 5]]
    assert sample.box_labels.tolist() == [0, 0]
    masks = sample.masks(SHAPE)
    assert masks.shape == (1, *SHAPE)
    assert masks.sum() == 25 + 75
    assert masks[0, 10:15, 40:55].all()


def test_an_image_with_other_findings_only_is_a_negative(opened):
    sample = opened([(NODULE, (30, 30, 5, 5))]).sample("vindr-cxr/a")
    assert (sample.positive, sample.boxes_xywh.shape, sample.box_labels.shape) == (False, (0, 4), (0,))
    assert not sample.masks(SHAPE).any()


def test_one_finding_under_two_names_is_one_box_and_two_of_one_name_are_two(opened):
    overlapping = [(CONSOLIDATION, (10, 10, 20, 10)), (OPACITY, (12, 10, 20, 10))]
    assert opened(overlapping).sample("vindr-cxr/a").boxes_xywh.tolist() == [[11, 10, 20, 10]]
    same = [(OPACITY, (10, 10, 20, 10)), (OPACITY, (12, 10, 20, 10))]
    assert len(opened(same).sample("vindr-cxr/a").boxes_xywh) == 2
    apart = [(CONSOLIDATION, (0, 0, 10, 10)), (OPACITY, (30, 20, 10, 10))]
    assert len(opened(apart).sample("vindr-cxr/a").boxes_xywh) == 2


def test_reports_do_not_travel(opened):
    assert opened().sample("rsna/a").report is None


def test_warnings_of_both_are_kept(opened):
    assert opened().warnings == ["about rsna", "about vindr-cxr"]


# ------------------------------------------------------------------------------------------------------------------- errors


def test_a_missing_dataset_is_named_with_where_it_must_lie(tmp_path):
    (tmp_path / "rsna").mkdir()
    with pytest.raises(
        DataError, match=r"rsna-to-vindr-cxr: it needs rsna and vindr-cxr, and there is no folder 'vindr-cxr' in .*PhysioNet"
    ):
        open_reader(RSNA_VINDR, tmp_path)
    with pytest.raises(DataError, match="siim-to-candid-ptx: it needs siim and candid-ptx, and there is no folder 'siim'"):
        open_reader(SIIM_CANDID, tmp_path)


def test_folders_given_one_by_one_are_not_enough_and_it_says_so():
    with pytest.raises(DataError, match="--data DIR with the folders 'rsna' and 'vindr-cxr' inside; it needs both"):
        resolve.dataset_root(RSNA_VINDR, {"rsna": Path("a"), "vindr-cxr": Path("b")})


def test_a_phantom_beside_a_release_is_refused(opened):
    with pytest.raises(DataError, match="rsna is a generated phantom and the other dataset is not"):
        opened(rsna={"phantom": {"seed": 1}})
    both = opened(rsna={"phantom": {"seed": 1}}, vindr={"phantom": {"seed": 2}})
    assert both.phantom == {"rsna": {"seed": 1}, "vindr-cxr": {"seed": 2}}
    assert opened().phantom is None


@pytest.mark.parametrize(
    ("update", "sentence"),
    [
        ({"redistribution": "ids"}, "it must be 'none'"),
        ({"parts": {"train": "rsna", "test": "rsna"}}, "a transfer needs two datasets"),
        ({"parts": {"train": "rsna"}}, "names no dataset to test on"),
        ({"merged": {}}, "vindr-cxr has none of opacity; it has Aortic"),
        ({"classes": ("opacity", "Mass")}, "rsna has none of Mass"),
    ],
)
def test_a_card_that_cannot_be_right_is_an_error(opened, update, sentence):
    with pytest.raises(CardError, match=sentence):
        opened(card=RSNA_VINDR.model_copy(update=update))


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [("lovt", "'train A, test B'"), ("train lovt", "'train A"), ("train none, test benchx", "rsna has no split 'none'. It offers: lovt")],
)
def test_a_rule_that_names_no_splits_is_an_error(opened, rule, sentence):
    with pytest.raises(SplitError, match=sentence):
        opened().split(RSNA_VINDR.splits["lovt-to-benchx"].model_copy(update={"rule": rule}))


def test_verify_tells_whose_line_it_is(opened):
    lines = [(c.what, c.verdict) for c in opened().verify().checks]
    assert lines == [("rsna: images", "ok"), ("rsna: boxes", "error"), ("vindr-cxr: images", "ok"), ("vindr-cxr: boxes", "error")]
    assert not opened().verify().ok


# --------------------------------------------------------------------------------------------------------- digests, keys, rules


def test_the_digest_follows_both_releases_their_split_rules_and_the_merged_classes(opened):
    first = opened().outline_digest()
    assert opened().outline_digest() == first
    assert opened(rsna={"digest": "other"}).outline_digest() != first
    assert opened(vindr={"digest": "other"}).outline_digest() != first
    fewer = RSNA_VINDR.model_copy(update={"merged": {"opacity": ("Lung Opacity",)}})
    assert opened(card=fewer).outline_digest() != first


def test_a_changed_split_rule_of_a_release_changes_the_digest(opened):
    reader = opened()
    first = reader.outline_digest()
    release = reader._releases["train"]
    rule = release.card.splits["lovt"].model_copy(update={"seed": 7})
    release.card = release.card.model_copy(update={"splits": {**release.card.splits, "lovt": rule}})
    assert reader.outline_digest() != first


def reference(card, **changes) -> DatasetRef:
    values = {"name": card.name, "digest": "0" * 64, "split": "s", "split_rule": next(iter(card.splits.values())), "target": "masks"}
    values |= {"classes": card.classes, "intensity": card.intensity, "statistics": card.statistics}
    return DatasetRef(**(values | changes))


def test_both_releases_are_in_the_key_of_a_transfer_and_of_no_other_job():
    assert "parts" not in reference(RSNA_VINDR).model_dump(mode="json")
    named = reference(RSNA_VINDR, parts=("rsna", "vindr-cxr"))
    assert named.model_dump(mode="json")["parts"] == ["rsna", "vindr-cxr"]
    assert DatasetRef.model_validate_json(named.model_dump_json()) == named


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"rsna": "none", "vindr-cxr": "none"}, Contamination.NONE),
        ({"rsna": "none", "vindr-cxr": "images"}, Contamination.IMAGES),
        ({"rsna": "labels", "vindr-cxr": "source"}, Contamination.LABELS),
        ({"rsna": "none"}, Contamination.UNKNOWN),
    ],
)
def test_contamination_is_the_worse_of_both_datasets(said, expected):
    task = registry.task("rsna-to-vindr-cxr-linear-frozen-100-lobe")
    ref = BackboneRef(family="torchvision", model="resnet18", digest="1" * 64)
    backbone = NamedBackbone("r", ref, {name: Contamination(kind) for name, kind in said.items()})
    dataset = reference(RSNA_VINDR, parts=("rsna", "vindr-cxr"))
    jobs = plan([task], [backbone], {task.dataset: dataset}, registry.protocol("corrected"), Settings(runs=1))
    assert {job.labels.contamination for job in jobs} == {expected}


# -------------------------------------------------------------------------------------------------------- on generated folders


@pytest.fixture(scope="module")
def corpora_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("transfer")
    write_corpus(CorpusPlan("siim", 14, seed=3, images_per_patient=(1, 1), positive_share=0.5), root / "siim")
    write_corpus(CorpusPlan("candid-ptx", 10, seed=3, images_per_patient=(1, 1), positive_share=0.6), root / "candid-ptx")
    return root


def test_generated_folders_verify_and_split_as_their_own_readers_do(corpora_of_two):
    reader = open_reader(SIIM_CANDID, corpora_of_two)
    assert reader.verify().ok
    assert reader.phantom is not None
    siim, candid = (open_reader(registry.dataset(name), corpora_of_two / name) for name in ("siim", "candid-ptx"))
    splits = reader.split(SIIM_CANDID.splits["lovt-to-by-patient"])
    assert splits["train"] == tuple(f"siim/{i}" for i in siim.split(siim.card.splits["lovt"])["train"])
    assert splits["test"] == tuple(f"candid-ptx/{i}" for i in candid.split(candid.card.splits["by-patient"])["test"])
    shown = next(i for i in candid.ids if candid.sample(i).positive)
    mine, own = reader.sample(f"candid-ptx/{shown}"), candid.sample(shown)
    assert np.array_equal(mine.masks((1024, 1024)), own.masks((1024, 1024)))
    assert np.array_equal(mine.image(), own.image())


def test_a_transfer_is_of_the_training_images_of_one_and_the_test_images_of_the_other(corpora_of_two):
    reader = open_reader(SIIM_CANDID, corpora_of_two)
    splits = reader.split(SIIM_CANDID.splits["lovt-to-by-patient"])
    found = drained(identity.identify(reader, splits, None, Memory(None)))
    siim, candid = (open_reader(registry.dataset(name), corpora_of_two / name) for name in ("siim", "candid-ptx"))
    own = {"siim": siim.split(siim.card.splits["lovt"]), "candid-ptx": candid.split(candid.card.splits["by-patient"])}
    used = {p for name in ("train", "validation") for i in own["siim"][name] for p in siim.sample(i).files}
    used |= {p for i in own["candid-ptx"]["test"] for p in candid.sample(i).files}
    assert set(found.contents.digests) == used
    assert not found.contents.names_files  # one of the two must not be named
    reader._names = {role: names[:0] for role, names in reader._names.items()}
    assert drained(identity.identify(reader, splits, None, Memory(None))).digest != found.digest


def test_a_transfer_is_there_when_both_datasets_are_and_is_verified_only_when_named(corpora_of_two, tmp_path):
    rows = {row["dataset"]: row["state"] for row in data.status([str(corpora_of_two)], tmp_path)}
    assert (rows["siim-to-candid-ptx"], rows["rsna-to-vindr-cxr"]) == ("ready", "absent")
    assert {found.dataset for found in data.verify([], [str(corpora_of_two)])} == {"siim", "siim-plain", "siim-labels", "candid-ptx"}


def test_a_model_trained_on_one_dataset_is_tested_on_the_other(small, tiny, corpora_of_two):
    job, place = small.one("siim-to-candid-ptx-linear-frozen-100-lobe", tiny(), root=corpora_of_two, limit=8)
    record = small.fit(job, place)
    assert (record.status, record.redistribution, record.phantom) == ("ok", "none", True)
    assert "pneumothorax_dice" in record.metrics
    assert record.job.experiment.dataset.parts == ("siim", "candid-ptx")
    assert record.leakage["shared_patients_train_test"] == record.leakage["shared_images_train_test"] == 0
    assert record.leakage["test_patients"] > 0  # CANDID-PTX knows its patients, so the test can be resampled by them


@pytest.mark.parametrize("head", ["linear", "yolov3"])
def test_rsna_and_vindr_meet_in_one_cache_and_one_class(small, tiny, corpora, tmp_path, head):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rsna").symlink_to(corpora / "rsna")
    write_corpus(CorpusPlan("vindr-cxr", 10, seed=3, images_per_patient=(2, 2), positive_share=0.6), tmp_path / "data" / "vindr-cxr")
    task = registry.task(f"rsna-to-vindr-cxr-{head}-frozen-100-lobe")
    job, place = small.one(task.id, tiny(), root=tmp_path / "data", limit=8)
    record = small.fit(job, place)
    assert (record.status, record.job.experiment.dataset.classes) == ("ok", ("opacity",))
    assert 0 <= record.metrics[task.report] <= 1


def test_an_unreadable_release_fails_as_it_does_alone(opened):
    reader = opened()

    def broken() -> np.ndarray:
        raise ImageError("vindr-cxr: cannot be read.")

    release = reader._releases["test"]
    release.samples["a"] = SimpleNamespace(**{**release.samples["a"].__dict__, "image": broken})
    release.sample = lambda sample_id: Sample(**release.samples[sample_id].__dict__)
    with pytest.raises(ImageError, match="cannot be read"):
        reader.sample("vindr-cxr/a").image()
