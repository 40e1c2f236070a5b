"""Where a card's tokenizer is looked for, what of it counts, and what is said where there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import transformers

from benchmark import registry, resolve
from benchmark.cards import BackboneRef
from benchmark.encoders import naming, tokenizer_files
from benchmark.encoders.build import build_backbone
from benchmark.errors import EnvironmentProblem, UsageError
from benchmark.plan import NamedBackbone, Settings, plan
from tests.text_folders import with_words

HUB = "emilyalsentzer/Bio_ClinicalBERT"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A hub that has nothing; holds for each question whether the network was allowed."""
    asked: list[bool] = []

    def absent(_repository, *, revision, allow_patterns, local_files_only):
        asked.append(not local_files_only)
        raise OSError("not here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    return asked


def test_a_folder_of_the_hubs_name_beside_the_weights_goes_before_the_hub(tmp_path: Path, no_hub: list[bool]) -> None:
    weights = tmp_path / "mine.ckpt"
    assert tokenizer_files.find(HUB, weights, fetch=False) is None
    assert no_hub == [False]  # looking goes to no network
    beside = with_words(tmp_path / "Bio_ClinicalBERT")
    assert tokenizer_files.find(f"{HUB}@0123abc", weights, fetch=True) == beside
    assert no_hub == [False]


def test_the_hub_is_asked_with_the_revision_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(repository, *, revision, allow_patterns, local_files_only):
        assert (repository, revision) == (HUB, "0123abc")
        assert "vocab.txt" in allow_patterns
        if local_files_only:
            raise OSError("not here")
        return str(with_words(tmp_path / "fetched"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert tokenizer_files.find(f"{HUB}@0123abc", None, fetch=True) == tmp_path / "fetched"


def test_a_card_may_name_a_folder_or_a_file_beside_the_weights(tmp_path: Path, no_hub: list[bool]) -> None:
    with_words(tmp_path / "words")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_files.find("words", tmp_path / "w.pt", fetch=False) == tmp_path / "words"
    assert tokenizer_files.find("tokenizer.json", tmp_path / "w.pt", fetch=False) == tmp_path / "tokenizer.json"
    assert tokenizer_files.find("elsewhere", tmp_path / "w.pt", fetch=False) is None


def test_what_is_missing_is_said_with_the_place_where_it_may_be_put(tmp_path: Path, no_hub: list[bool]) -> None:
    with pytest.raises(EnvironmentProblem, match=rf"as {tmp_path / 'Bio_ClinicalBERT'}, beside the weights, or name it behind"):
        tokenizer_files.require(HUB, tmp_path / "mine.ckpt", "GLoRIA")
    assert no_hub == [False, True]


def test_weights_in_the_same_folder_and_the_folders_name_do_not_count(tmp_path: Path) -> None:
    one, other = with_words(tmp_path / "one"), with_words(tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"weights")
    assert tokenizer_files.digest(one, sha256) == tokenizer_files.digest(other, sha256)
    (other / "vocab.txt").write_text("[PAD]\n")
    assert tokenizer_files.digest(one, sha256) != tokenizer_files.digest(other, sha256)


@pytest.mark.parametrize("name", ["bpe.codes", "spm.model", "vocab.bpe", "sentencepiece.model", "normalizer.json"])
def test_every_file_that_a_tokenizer_of_the_library_reads_counts(tmp_path: Path, name: str) -> None:
    folder = with_words(tmp_path / "one")
    without = tokenizer_files.digest(folder, sha256)
    (folder / name).write_text("{}")
    held = tokenizer_files.digest(folder, sha256)
    (folder / name).write_text("[]")
    assert len({without, held, tokenizer_files.digest(folder, sha256)}) == 3


def test_the_digest_of_a_folder_stays_that_of_earlier_jobs(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "vocab.txt", "tokenizer.model"):
        (folder / name).write_text(name)
    assert tokenizer_files.digest(folder, sha256) == "8b696537f453c08a81e12a53054c68b4a499def474c6988ca563fdf8dfdcab5b"


def test_a_choice_behind_the_weights_takes_the_cards_place_and_is_told_without_its_path(tmp_path: Path) -> None:
    weights, words = tmp_path / "chexpert_resnet50.ckpt", with_words(tmp_path / "words")
    weights.touch()
    assert naming.parse(f"gloria-text@{weights}").tokenizer == HUB
    chosen = naming.parse(f"gloria-text@{weights}#tokenizer={words}")
    assert (chosen.tokenizer, chosen.label) == (str(words), "GLoRIA with text (words)")
    with pytest.raises(UsageError, match="no folder with a vocabulary"):
        naming.parse(f"gloria-text@{weights}#tokenizer={tmp_path / 'nothing'}")


def test_every_shipped_card_with_text_names_a_tokenizer() -> None:
    named = {name for name, card in registry.backbones().items() if card.tokenizer}
    assert named == {name for name in registry.backbones() if name.endswith("-text")}


def test_a_planned_job_has_what_makes_vectors_of_texts_in_its_key_only_where_it_reads_words() -> None:
    ref = BackboneRef(family="gloria", model="resnet50+text", layout="gloria", digest="1" * 64)
    words, labels = registry.task("chexpert-5x200-zero-shot-mgca"), registry.task("chexpert-linear-frozen-100-mgca")
    datasets = {"chexpert": _dataset()}

    def keys(tokenizer: str | None, text_code: int | None = None) -> list[str]:
        named = NamedBackbone("mine", ref.model_copy(update={"tokenizer": tokenizer, "text_code": text_code}))
        protocol = registry.protocol("corrected")
        return [plan([task], [named], datasets, protocol, Settings(runs=1), registry.prompts())[0].key for task in (words, labels)]

    found = [keys(None), keys("2" * 64), keys("3" * 64), keys(None, 2)]
    assert len({reading for reading, _ in found}) == 4
    assert len({unread for _, unread in found}) == 1


def test_lovts_text_side_has_a_later_version_than_its_first(tmp_path: Path) -> None:
    """Its vectors were those of its longest neighbour; other families' never changed."""
    file = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(2)}, file)
    found = {name: resolve.backbone(f"{name}@{file}", tmp_path).named.ref.text_code for name in ("lovt-text", "gloria-text")}
    assert found == {"lovt-text": 2, "gloria-text": None}


def _dataset():
    from benchmark.cards import DatasetRef

    card = registry.dataset("chexpert")
    return DatasetRef(
        name=card.name,
        digest="0" * 64,
        split="mgca-disjoint",
        split_rule=card.splits["mgca-disjoint"],
        classes=card.classes,
        target="labels",
        intensity=card.intensity,
        statistics=card.statistics,
    )


def test_a_tokenizer_for_a_backbone_without_text_is_refused(tmp_path: Path) -> None:
    ref = BackboneRef(family="torchvision", model="resnet18", digest=None, tokenizer="0" * 64)
    with pytest.raises(UsageError, match="reads no text"):
        build_backbone(ref, None, init_seed=1, tokenizer=with_words(tmp_path / "words"))


def test_a_card_of_ones_own_runs_by_itself_on_the_files_beside_it(tmp_path: Path) -> None:
    """A card, its weights and its tokenizer's folder: nothing in Python."""
    import torch

    from benchmark.encoders import gloria

    words = with_words(tmp_path / "words")
    transformers.BertConfig(vocab_size=9).save_pretrained(words)
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nfamily: gloria\nmodel: resnet50+text\nlayout: gloria\nweights: mine.ckpt\ntokenizer: words\n")
    torch.manual_seed(7)  # another than a backbone starts from
    with pytest.MonkeyPatch.context() as patch:
        small = transformers.BertConfig(vocab_size=9, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16)
        patch.setattr(gloria, "build", lambda model: gloria.Gloria("resnet18", small))  # the sizes alone are another
        state = {f"gloria.{name}": tensor for name, tensor in gloria.build("").network.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / "mine.ckpt")
        found = resolve.backbone(f"{card}@{tmp_path / 'mine.ckpt'}", tmp_path / "cache", reads_words=True)
        ref = found.named.ref.model_copy(update={"model": found.model})
        backbone, account = build_backbone(ref, found.weights, init_seed=None, tokenizer=found.tokenizer)
    assert account.share_loaded == 1
    with torch.no_grad():
        assert backbone.eval().embed_texts(["no edema"]).mask.sum() == 2
