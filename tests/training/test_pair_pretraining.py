"""Pre-training on pairs: what is asked of images, files that load whole, and the miniature of the control: shuffled pairs teach nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark import registry
from benchmark.encoders import conformance
from benchmark.encoders.base import VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import DataError
from benchmark.phantom.reports import hard_negatives
from benchmark.readers import mimic_cxr
from benchmark.training import pair_pretraining
from benchmark.training.pair_pretraining import SIDE, Pairs, TwoTowers, grams, sentence_targets, shuffled, vocabulary
from tests.corpora import CorpusPlan, write_corpus

REPORTS = ("No opacity. Heart normal.", "Opacity in the left lung. Heart normal.", "Opacity in the right lung.")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs") / "mimic-cxr"
    write_corpus(CorpusPlan(dataset="mimic-cxr", n_patients=24, seed=5, images_per_patient=(1, 1), positive_share=0.9), root)
    return root


def patches(n: int, seed: int) -> Pairs:
    """Noise with a bright patch in one quarter, and a report that says in which."""
    rng = np.random.default_rng(seed)
    images, reports = rng.integers(0, 90, (n, SIDE, SIDE), dtype=np.uint8), []
    for k in range(n):
        side, zone = int(rng.integers(2)), int(rng.integers(2))
        row, column = 9 + 37 * zone + int(rng.integers(6)), 9 + 37 * side + int(rng.integers(6))
        images[k, row : row + 19, column : column + 19] += 110
        reports.append(f"There is opacity in the {('right', 'left')[side]} {('upper', 'lower')[zone]} zone. The heart size is normal.")
    return Pairs(images, tuple(reports))


# ------------------------------------------------------------------------------------------------------------------- pairs


def test_a_report_becomes_words_and_pairs_of_words_that_cross_no_sentence():
    assert grams("No opacity. Heart normal.") == [["no", "opacity", "no opacity"], ["heart", "normal", "heart normal"]]
    assert grams("...") == []


def test_an_image_is_asked_about_sentences_that_some_reports_share():
    asked, belongs = sentence_targets((*REPORTS, REPORTS[2]))
    assert [sentence[0] for sentence in asked] == ["heart", "opacity"]
    assert belongs.T.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    everywhere, _ = sentence_targets(["Heart normal."] * 3)
    assert everywhere == [], "what all reports say tells no image from another"


def test_rare_words_are_not_in_the_vocabulary():
    assert vocabulary(["opacity"] * 5 + ["nodule"] * 4) == ["opacity"]


def test_shuffled_pairs_are_the_same_images_and_reports_and_no_pair_is_kept():
    pairs = Pairs(np.zeros((9, SIDE, SIDE), np.uint8), tuple(f"report {k}" for k in range(9)))
    mixed = shuffled(pairs, seed=3)
    assert mixed.images is pairs.images
    assert sorted(mixed.reports) == sorted(pairs.reports)
    assert all(a != b for a, b in zip(mixed.reports, pairs.reports, strict=True))
    assert shuffled(pairs, seed=3).reports == mixed.reports
    assert shuffled(pairs, seed=4).reports != mixed.reports


def test_pairs_are_read_without_masks_boxes_or_labels(corpus: Path, monkeypatch):
    whole = pair_pretraining.load_pairs("mimic-cxr", corpus)
    sample = mimic_cxr.DatasetReader.sample

    def bare(self, sample_id):
        return replace(sample(self, sample_id), labels=None, boxes_xywh=None, box_labels=None, masks=None, phrases=None)

    monkeypatch.setattr(mimic_cxr.DatasetReader, "sample", bare)
    found = pair_pretraining.load_pairs("mimic-cxr", corpus)
    assert np.array_equal(found.images, whole.images)
    assert found.reports == whole.reports
    assert found.images.shape == (len(found.reports), SIDE, SIDE)
    assert all(report.strip() for report in found.reports)


def test_a_corpus_without_reports_is_refused(corpora: Path):
    with pytest.raises(DataError, match=r"rsna: none of \d+ images in .* has a report"):
        pair_pretraining.load_pairs("rsna", corpora / "rsna")


# ------------------------------------------------------------------------------------------------------------------ towers


def test_the_towers_keep_the_contract_of_a_backbone():
    torch.manual_seed(0)
    encoder = SealedEncoder(TwoTowers(["left", "right"]), registry.dataset("open-i").statistics)
    assert isinstance(encoder.backbone, VisionLanguageBackbone)
    conformance.check(encoder, 64)


def test_the_parts_of_an_image_add_up_to_the_whole_and_sentences_average():
    torch.manual_seed(0)
    towers = TwoTowers(["opacity", "left", "heart"]).eval()
    with torch.no_grad():
        image = towers.embed_images(torch.rand(2, 3, SIDE, SIDE))
        text = towers.embed_texts(["Left opacity. Heart.", "Heart."])
    assert torch.allclose(image.global_, image.local.sum(dim=(2, 3)) + towers.places.bias, atol=1e-5)
    assert text.mask.tolist() == [[True, True], [True, False]]
    assert torch.allclose(text.global_[0], text.local[0].mean(dim=1), atol=1e-6)
    assert torch.allclose(text.global_[1], text.local[1, :, 0], atol=1e-6)
    assert torch.allclose(text.local[0, :, 1], text.local[1, :, 0])


def test_images_of_another_size_are_seen_at_the_towers_own():
    torch.manual_seed(0)
    towers, images = TwoTowers(["opacity"]).eval(), torch.rand(2, 3, 2 * SIDE, 2 * SIDE)
    smaller = torch.nn.functional.avg_pool2d(images, 2)
    with torch.no_grad():
        found, expected = towers.embed_images(images), towers.embed_images(smaller)
    assert torch.allclose(found.global_, expected.global_, atol=1e-6)
    assert found.local.shape == expected.local.shape


def test_a_text_of_unknown_words_is_similar_to_nothing():
    towers = TwoTowers(["opacity"])
    assert not towers.embed_texts(["Nodule.", ""]).global_.any()


def test_a_file_loads_whole_with_its_vocabulary(tmp_path: Path):
    pairs = patches(24, seed=1)
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    steps: list[int] = []
    for file in files:
        found = pair_pretraining.pretrain(pairs, file, 32, processes=1, progress=lambda done, _: steps.append(done))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert steps == [16, 32] * 2
    assert found["sentences"] == 4  # of four places; that the heart is normal is said of all
    towers = pair_pretraining.load(files[0]).eval()
    assert towers.vocabulary == tuple(vocabulary(pairs.reports))
    assert any(key.endswith("running_mean") and value.abs().sum() > 0 for key, value in towers.state_dict().items())


# ----------------------------------------------------------------------------------------------------------------- control


@pytest.mark.parametrize(("given", "learns"), [("true", True), ("shuffled", False)])
def test_true_pairs_teach_side_and_zone_and_shuffled_pairs_do_not(tmp_path: Path, given: str, learns: bool):
    """The share of one-word changes that stand below an image's own report, against the share below the report of an image drawn."""
    pairs, tested = patches(96, seed=1), patches(64, seed=9)
    weights = tmp_path / "towers.safetensors"
    pairs = pairs if given == "true" else shuffled(pairs, seed=2)
    pair_pretraining.pretrain(pairs, weights, 960, processes=1, progress=lambda done, total: None)
    won = won_against_changes(pair_pretraining.load(weights), tested)
    rng = np.random.default_rng(0)
    drawn = [won[np.arange(len(won)), rng.permutation(len(won))].mean() for _ in range(999)]
    share = float(np.diag(won).mean())
    above_chance = (1 + np.count_nonzero(np.array(drawn) >= share)) / 1000 < 0.01
    assert above_chance == learns
    assert (share > 0.9) == learns


def won_against_changes(towers: TwoTowers, pairs: Pairs) -> np.ndarray:
    """(N, N): share of the one-word changes of side and zone of report j that image i finds less similar than report j."""
    encoder = SealedEncoder(towers, towers.spec.normalisation)
    with torch.no_grad():
        images = F.normalize(encoder.embed_images(torch.from_numpy(pairs.images)).global_, dim=1)
        columns = []
        for report in pairs.reports:
            changed = [text for text in hard_negatives(report) if "normal" in text and " mid " not in text]
            own, *others = (images @ F.normalize(towers.embed_texts([report, *changed]).global_, dim=1).T).T
            columns.append(torch.stack([own > other for other in others]).float().mean(dim=0))
    return torch.stack(columns, dim=1).numpy()
