"""`lobe data`: samples, verification and preparation, as they are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


def test_a_sample_is_written_told_and_verified(lobe, tmp_path: Path):
    code, text, _ = lobe("data", "sample", tmp_path / "data", "--dataset", "rsna", "--patients", "5", "--workers", "1", "--json")
    (row,) = json.loads(text)
    assert (code, row["dataset"]) == (0, "rsna")
    assert (tmp_path / "data" / "rsna" / "PHANTOM.json").is_file()
    assert lobe("data", "verify", "rsna", "--data", tmp_path / "data")[0] == 0


def test_a_sample_of_no_named_dataset_is_one_of_each_that_has_a_phantom(lobe, tmp_path: Path, monkeypatch):
    from benchmark.phantom import corpus

    monkeypatch.setattr(corpus, "write_corpus", lambda plan, folder, **_: corpus.Summary(folder, plan, {"images": 1}, {}))
    code, text, _ = lobe("data", "sample", tmp_path, "--json")
    assert code == 0
    assert [row["dataset"] for row in json.loads(text)] == list(corpus.writers())
    assert "rsna-labels" not in corpus.writers()


def test_verify_of_an_edited_folder_exits_with_1_and_shows_expected_and_found(lobe, corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "rsna")
    labels = tmp_path / "rsna" / "stage_2_train_labels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *sorted(rows)]) + "\n")
    code, text, _ = lobe("data", "verify", "rsna", "--data", tmp_path, "--json")
    (found,) = json.loads(text)
    assert (code, found["ok"]) == (1, False)
    assert any(check["verdict"] == "error" and check["expected"] != check["found"] for check in found["checks"])


def test_a_sample_ends_with_what_to_do_next(lobe, tmp_path: Path, monkeypatch):
    from benchmark.phantom import corpus

    monkeypatch.setattr(corpus, "write_corpus", lambda plan, folder, **_: corpus.Summary(folder, plan, {"images": 1}, {}))
    code, text, _ = lobe("data", "sample", tmp_path, "--dataset", "rsna")
    assert code == 0
    assert f"Next: lobe run --backbone torchvision:resnet18 --task rsna-linear-frozen-100 --data {tmp_path} --limit 32" in " ".join(
        text.split()
    )


@pytest.mark.parametrize(("dataset", "said"), [("siim", "--task siim-linear-frozen-100-lobe-v1 "), ("open-i", "lobe data verify")])
def test_the_hint_below_a_sample_is_of_a_dataset_that_was_written(lobe, tmp_path: Path, monkeypatch, dataset: str, said: str):
    from benchmark.phantom import corpus

    monkeypatch.setattr(corpus, "write_corpus", lambda plan, folder, **_: corpus.Summary(folder, plan, {"images": 1}, {}))
    folder = tmp_path / "a [b] c"
    code, text, _ = lobe("data", "sample", folder, "--dataset", dataset)
    hint = next(line for line in text.splitlines() if line.startswith("Next: "))
    assert (code, said in hint, f"--data '{folder}'" in hint) == (0, True, True)
    assert "rsna" not in hint


def test_unreadable_images_are_told_a_few_and_damaged_rows_as_a_note(lobe, corpora: Path, tmp_path: Path, monkeypatch):
    from benchmark.cli import data

    monkeypatch.setattr(data, "SHOWN_PROBLEMS", 1)
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    images = sorted((tmp_path / "data" / "rsna" / "stage_2_train_images").glob("*.dcm"))
    for path in images[:3]:
        path.write_bytes(path.read_bytes()[:2000])
    command = ("data", "prepare", "rsna", "--data", tmp_path / "data", "--cache", tmp_path / "cache", "--workers", "1")
    code, _, err = lobe(*command)
    told = [line for line in err.splitlines() if line]
    assert code == 1
    assert images[0].stem in err
    assert images[1].stem not in err
    assert told[-1] == "And 2 more; --json lists all 3."
    (stored,) = (tmp_path / "cache" / "images").rglob("images.u8")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    _, _, err = lobe(*command)
    assert "note: " in err
    assert "damaged" in err
