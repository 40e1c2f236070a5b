"""From names to digests: what changes a result changes a key, and what does not, does not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from benchmark import contents, registry, resolve
from benchmark.cards import Contamination, Normalisation
from benchmark.encoders import sources
from benchmark.encoders.describe import FactoryDigest, sources_digest
from benchmark.errors import CheckpointError, ConformanceError, DataError, UnknownName, UsageError
from benchmark.plan import NamedBackbone, Settings, plan

TASK = "rsna-linear-frozen-100"
PUBLISHED = registry.protocol("published")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({"conv1.weight": torch.zeros(2)}, path)
    return path


def keys(backbone: NamedBackbone, root: Path) -> list[str]:
    dataset = resolve.dataset(registry.dataset("rsna"), root, PUBLISHED, limit=8)
    card = registry.task(TASK)
    return [job.key for job in plan([card], [backbone], {"rsna": dataset.ref}, PUBLISHED, Settings(runs=2, limit=8))]


# -------------------------------------------------------------------------------------------------------------- backbones


def test_digest_of_a_weights_file_is_computed_once(weights: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(contents, "RECENT_NS", 0)
    name = f"torchvision:resnet18@{weights}"
    first = resolve.backbone(name, tmp_path / "cache")

    def reading_again(*_):
        raise AssertionError("the file was hashed a second time")

    monkeypatch.setattr(contents.hashlib, "file_digest", reading_again)
    assert resolve.backbone(name, tmp_path / "cache") == first
    weights.touch()
    os.utime(weights, ns=(1, 1))
    with pytest.raises(AssertionError, match="second time"):
        resolve.backbone(name, tmp_path / "cache")


def test_a_changed_weights_file_changes_the_key(weights: Path, corpora: Path, tmp_path: Path):
    name = f"torchvision:resnet18@{weights}"
    before = resolve.backbone(name, tmp_path / "cache")
    save_file({"conv1.weight": torch.ones(2)}, weights)
    os.utime(weights, ns=(5, 5))
    after = resolve.backbone(name, tmp_path / "cache")
    assert before.named.label == after.named.label
    assert before.named.ref.digest != after.named.ref.digest
    assert not set(keys(before.named, corpora / "rsna")) & set(keys(after.named, corpora / "rsna"))


def test_a_copied_or_renamed_weights_file_keeps_the_key(weights: Path, corpora: Path, tmp_path: Path):
    copy = shutil.copy(weights, tmp_path / "another-name.safetensors")
    one, other = (resolve.backbone(f"torchvision:resnet18@{path}", tmp_path / "cache").named for path in (weights, copy))
    assert one.label != other.label
    assert keys(one, corpora / "rsna") == keys(other, corpora / "rsna")


def test_a_damaged_memory_of_digests_is_made_anew(weights: Path, tmp_path: Path):
    first = resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path / "cache")
    (tmp_path / "cache" / contents.MEMORY).write_text("{" * 1000)
    assert resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path / "cache") == first


def test_weights_replaced_under_the_old_size_and_time_change_the_digest(weights: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(contents, "RECENT_NS", 0)
    before, first = weights.stat(), resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path / "cache")
    save_file({"conv1.weight": torch.ones(2)}, tmp_path / "other")
    os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "other", weights)
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path / "cache").named.ref.digest != first.named.ref.digest


def test_a_weights_file_that_cannot_be_read_is_named(weights: Path, tmp_path: Path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(contents.hashlib, "file_digest", refuse)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read: Permission denied"):
        resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path / "cache")


def test_a_random_backbone_has_no_digest_and_says_so(tmp_path: Path):
    found = resolve.backbone("torchvision:resnet18", tmp_path)
    assert (found.named.ref.digest, found.named.label, found.weights) == (None, "resnet18 (random)", None)


def test_a_librarys_weights_are_named_and_known_by_their_bytes(tmp_path: Path, monkeypatch):
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    cached = tmp_path / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    cached.parent.mkdir()
    cached.write_bytes(b"weights")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    found = resolve.backbone("torchvision:resnet18@IMAGENET1K_V1", tmp_path / "cache")
    assert (found.named.label, found.weights) == ("resnet18 (IMAGENET1K_V1)", cached)
    assert found.named.ref.digest == hashlib.sha256(b"weights").hexdigest()
    by_path = resolve.backbone(f"torchvision:resnet18@{cached}", tmp_path / "cache")
    assert by_path.named.ref.digest == found.named.ref.digest


def test_a_folder_of_transformers_is_known_by_its_configuration_and_not_by_its_place(tmp_path: Path):
    models = []
    for parent, layers in (("a", 2), ("b", 2), ("c", 3)):
        folder = tmp_path / parent / "net"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "num_hidden_layers": layers}))
        models.append(resolve.backbone(f"hf:{folder}", tmp_path / "cache").named.ref.model)
    assert models[0] == models[1] != models[2]
    assert str(tmp_path) not in models[0]


def test_statistics_beside_a_folders_configuration_are_known_where_they_are_used(tmp_path: Path):
    """Whoever corrects them has jobs of another key under the protocols that use them, and the same jobs under all others."""
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    silent = resolve.backbone(f"hf:{folder}", tmp_path / "cache")
    with pytest.raises(ConformanceError, match="net \\(random\\) states no normalisation of its own"):
        silent.require_statistics(registry.protocol("lobe"))

    def stating(std: float) -> NamedBackbone:
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [std] * 3}))
        found = resolve.backbone(f"hf:{folder}", tmp_path / "cache")
        found.require_statistics(registry.protocol("lobe"))
        assert found.named.self_normalised.normalisation == Normalisation(mean=(0.5,) * 3, std=(std,) * 3)
        return found.named

    one, other = stating(0.25), stating(0.5)
    assert one.ref == other.ref == silent.named.ref == silent.named.self_normalised
    card = tmp_path / "card.yaml"
    card.write_text(f"name: mine\nfamily: hf\nmodel: {folder}\nlayout: hf\nnormalisation: {{mean: [0.1], std: [0.2]}}\n")
    told = resolve.backbone(str(card), tmp_path / "cache").named
    assert told.self_normalised == told.ref  # a card's word goes first
    assert told.ref.normalisation == Normalisation(mean=(0.1,), std=(0.2,))


def test_statistics_of_a_librarys_weights_are_known_where_they_are_not_the_models(tmp_path: Path, monkeypatch):
    half = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for model, own in (("efficientnet_v2_l", half), ("efficientnet_b0", None)):
        cached = tmp_path / "checkpoints" / torchvision.models.get_model_weights(model).DEFAULT.url.rsplit("/", 1)[-1]
        cached.write_bytes(b"weights")
        found = resolve.backbone(f"torchvision:{model}@DEFAULT", tmp_path / "cache").named
        by_path = resolve.backbone(f"torchvision:{model}@{cached}", tmp_path / "cache").named
        assert (found.statistics, by_path.statistics) == (own, None)
        assert found.ref == by_path.ref


@pytest.mark.usefixtures("described_quickly")
def test_a_python_function_is_known_by_what_it_builds(tiny, tmp_path: Path, corpora: Path):
    fixed, drawn = tiny("fixed"), tiny("drawn", at_build="pass")
    known = resolve.backbone(f"{fixed}:build", tmp_path)
    random = resolve.backbone(f"{drawn}:build", tmp_path)
    assert known.named.ref.digest is not None
    assert known.named.label == "mine:build"
    assert random.named.ref.digest is None
    assert random.named.label == "mine:build (random)"
    # Another folder, the same function: the same jobs.
    moved = shutil.copytree(fixed.parent, tmp_path / "moved")
    again = resolve.backbone(f"{moved / 'mine.py'}:build", tmp_path)
    assert keys(again.named, corpora / "rsna") == keys(known.named, corpora / "rsna")
    assert again.model != known.model


def test_a_factory_can_say_which_datasets_it_saw(tmp_path: Path, monkeypatch):
    """It reaches every job's labels; what neither it nor its pretraining sets tell counts as seen."""

    def said(**spec) -> dict[str, Contamination]:
        monkeypatch.setattr(resolve, "describe", lambda model: FactoryDigest("0" * 64, (), **spec))
        (tmp_path / "mine.py").write_text("")
        return dict(resolve.backbone(f"{tmp_path / 'mine.py'}:build", tmp_path / "cache").named.contamination)

    assert said() == {}
    assert said(pretraining=("imagenet-1k", "our own")) == {}
    assert said(pretraining=("imagenet-1k",))["rsna"] is Contamination.NONE
    assert said(pretraining=("nih-cxr",))["rsna"] is Contamination.IMAGES
    assert said(contamination={"rsna": Contamination.LABELS}) == {"rsna": Contamination.LABELS}
    untouched = said(pretraining=(), contamination={"siim": Contamination.SOURCE})
    releases = [card.name for card in registry.datasets().values() if not card.parts]
    assert untouched == dict.fromkeys(releases, Contamination.NONE) | {"siim": Contamination.SOURCE}
    with pytest.raises(UsageError, match=r"mine:build: `spec.contamination` names 'rsnaa'.*Did you mean rsna"):
        said(contamination={"rsnaa": Contamination.NONE})


@pytest.mark.usefixtures("described_quickly")
def test_what_the_spec_says_is_what_planning_reads(tiny, tmp_path: Path):
    said = "{'pretraining': ('mimic-cxr', 'our own'), 'contamination': {'rsna': 'images'}}"
    changed = f"torch.manual_seed(5)\n    made = Tiny()\n    made.spec = made.spec.model_copy(update={said})\n    return made"
    found = resolve.backbone(f"{tiny(at_build=changed)}:build", tmp_path)
    assert found.named.contamination == {"rsna": Contamination.IMAGES}


def test_a_backbone_that_states_no_statistics_is_refused_before_anything_runs_where_the_protocol_asks_for_them(
    tiny, weights: Path, tmp_path: Path
):
    lobe, corrected = registry.protocol("lobe"), registry.protocol("corrected")
    stating = "torch.manual_seed(5); from benchmark.cards import Normalisation; stated = Tiny(); "
    stating += "stated.spec = stated.spec.model_copy(update={'normalisation': Normalisation(mean=(0.5,), std=(0.2,))}); return stated"
    silent, told = (resolve.backbone(f"{file}:build", tmp_path) for file in (tiny("silent"), tiny("stating", at_build=stating)))
    without = resolve.backbone(f"lovt@{weights}", tmp_path)  # its card says that none were published
    for found in (silent, without):
        found.require_statistics(corrected)
        with pytest.raises(
            ConformanceError, match=r"states no normalisation of its own, and the protocol asks for it: set `normalisation`"
        ):
            found.require_statistics(lobe)
    told.require_statistics(lobe)
    resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path).require_statistics(lobe)
    assert (silent.named.input_size, resolve.backbone(f"g2d@{weights}", tmp_path).named.input_size) == (224, 256)


def test_a_card_of_a_python_file_is_called_random_only_where_it_is(tmp_path: Path, monkeypatch):
    (tmp_path / "mine.py").write_text("")
    card = tmp_path / "card.yaml"
    card.write_text("name: mine\ntitle: Mine\nfamily: python_file\nmodel: mine.py:build\ncontamination: {rsna: images}\n")
    labels = []
    for weights in ("0" * 64, None):
        monkeypatch.setattr(resolve, "describe", lambda model, weights=weights: FactoryDigest(weights, ()))
        found = resolve.backbone(str(card), tmp_path)
        labels.append(found.named.label)
        assert found.model == f"{tmp_path / 'mine.py'}:build"  # beside the card, wherever the command was started
        assert found.named.contamination == {"rsna": Contamination.IMAGES}
        assert found.named.custom
    assert labels == ["Mine", "Mine (random)"]


def test_a_factory_whose_only_code_is_its_file_is_known_under_its_earlier_name_too(tiny, tmp_path: Path, monkeypatch):
    """The first version hashed the folder's `.py` files and nothing below; which helper module ran, nothing recorded."""
    file = tiny()
    (file.parent / "unused.py").write_text("A = 1\n")
    (file.parent / "helper.py").write_text("A = 1\n")
    (file.parent / "w.bin").write_text("1")

    def resolved(*names: str) -> resolve.ResolvedBackbone:
        files = sources.files_of(file, [str(file.parent / name) for name in names])
        monkeypatch.setattr(resolve, "describe", lambda model: FactoryDigest("0" * 64, files))
        return resolve.backbone(f"{file}:build", tmp_path / "cache")

    alone = resolved("mine.py")
    assert alone.earlier == alone.named.ref.model_copy(update={"model": f"build:{sources_digest(file.parent)}"})
    assert alone.earlier != alone.named.ref
    assert resolved("mine.py", "helper.py").earlier is None
    assert resolved("mine.py", "w.bin").earlier is None
    assert resolve.backbone("torchvision:resnet18", tmp_path / "cache").earlier is None


# --------------------------------------------------------------------------------------------------------------- datasets


def test_a_moved_data_folder_keeps_the_keys_and_an_edited_one_does_not(corpora: Path, tmp_path: Path):
    backbone = resolve.backbone("torchvision:resnet18", tmp_path).named
    moved = shutil.copytree(corpora / "rsna", tmp_path / "elsewhere")
    assert keys(backbone, moved) == keys(backbone, corpora / "rsna")
    labels = moved / "stage_2_train_labels.csv"
    labels.write_text(labels.read_text() + "\n")
    assert not set(keys(backbone, moved)) & set(keys(backbone, corpora / "rsna"))


def test_a_renamed_backbone_or_task_keeps_the_keys(corpora: Path, tmp_path: Path):
    backbone = resolve.backbone("torchvision:resnet18", tmp_path).named
    renamed = NamedBackbone("the best one", backbone.ref)
    assert keys(renamed, corpora / "rsna") == keys(backbone, corpora / "rsna")


def test_what_is_expected_of_a_split_is_checked_and_not_hashed(corpora: Path):
    found = resolve.dataset(registry.dataset("rsna"), corpora / "rsna", PUBLISHED)
    assert registry.dataset("rsna").splits["lovt"].expected
    assert found.ref.split_rule.expected == {}
    assert (found.phantom, found.known_release) == (True, True)


def test_an_edited_release_is_not_a_known_one(corpora: Path, tmp_path: Path):
    folder = shutil.copytree(corpora / "rsna", tmp_path / "rsna")
    labels = folder / "stage_2_train_labels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *sorted(rows)]) + "\n")  # re-saved in another order: another split
    assert not resolve.dataset(registry.dataset("rsna"), folder, PUBLISHED).known_release


# ---------------------------------------------------------------------------------------------------------------- folders


def test_data_folders_are_a_root_or_named_and_the_name_wins(tmp_path: Path):
    roots = resolve.data_roots([str(tmp_path), f"siim={tmp_path / 'other'}"])
    assert resolve.dataset_root(registry.dataset("rsna"), roots) == tmp_path / "rsna"
    assert resolve.dataset_root(registry.dataset("siim"), roots) == tmp_path / "other"


def test_a_dataset_without_any_folder_says_how_to_give_one(tmp_path: Path):
    roots = resolve.data_roots([f"siim={tmp_path}"])
    with pytest.raises(DataError, match="--data rsna=PATH"):
        resolve.dataset_root(registry.dataset("rsna"), roots)


def test_a_folder_that_exists_is_a_folder_even_with_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "run=1").mkdir()
    assert resolve.data_roots([str(tmp_path / "run=1")]) == {None: tmp_path / "run=1"}


def test_data_folder_comes_from_the_environment_only_when_none_is_given(tmp_path: Path, monkeypatch):
    with pytest.raises(UsageError, match="LOBE_DATA"):
        resolve.data_roots([])
    monkeypatch.setenv("LOBE_DATA", str(tmp_path / "environment"))
    assert resolve.data_roots([]) == {None: tmp_path / "environment"}
    assert resolve.data_roots([str(tmp_path)]) == {None: tmp_path}


def test_an_unknown_dataset_in_data_suggests_the_nearest(tmp_path: Path):
    with pytest.raises(UnknownName, match="rsna"):
        resolve.data_roots([f"rsnaa={tmp_path}"])


def test_cache_folder_is_given_or_from_the_environment_or_the_users(tmp_path: Path, monkeypatch):
    assert resolve.cache_folder(tmp_path) == tmp_path.resolve()
    monkeypatch.setenv("LOBE_CACHE", str(tmp_path / "c"))
    assert resolve.cache_folder() == (tmp_path / "c").resolve()
    monkeypatch.delenv("LOBE_CACHE")
    assert resolve.cache_folder().name == "lobe"


@pytest.mark.parametrize(("names", "suite"), [((), None), ((TASK,), "lovt-18")])
def test_tasks_are_named_or_of_a_suite_never_both(names, suite):
    with pytest.raises(UsageError, match="either --suite"):
        resolve.tasks(names, suite)


def test_a_task_named_twice_is_one_task():
    assert [card.id for card in resolve.tasks([TASK, TASK], None)] == [TASK]
    assert [card.id for card in resolve.tasks([], "lovt-18")] == list(registry.suite("lovt-18").tasks)


@pytest.mark.parametrize(
    ("text", "expected"), [("4GB", 4 * 10**9), ("500 MB", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("4096", 4096), ("2k", 2000)]
)
def test_a_cache_budget_is_written_as_people_write_sizes(text, expected):
    assert resolve.size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "4 apples"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="not a size"):
        resolve.size_bytes(text)


def test_the_set_of_weights_that_is_chosen_is_part_of_the_key_and_without_a_choice_the_key_stays(weights: Path, tmp_path: Path):
    plain = resolve.backbone(f"torchvision:resnet18@{weights}", tmp_path / "cache").named
    chosen = resolve.backbone(f"torchvision:resnet18@{weights}#container=state_dict_ema", tmp_path / "cache").named
    assert "container" not in plain.ref.canonical
    assert '"container":"state_dict_ema"' in chosen.ref.canonical
    assert plain.label != chosen.label
