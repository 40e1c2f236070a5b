"""Promises of prompts and scores: GLoRIA's draw and local similarity to the digit (docs/sources.md, GLoRIA)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark import registry
from benchmark.cards import DatasetRef, PromptCard, PromptTemplate
from benchmark.encoders.gloria import clean
from benchmark.errors import CardError, ConformanceError, TrainingError, UsageError
from benchmark.heads import grounding, zero_shot
from benchmark.heads.networks import local_similarity as loc
from benchmark.heads.prompts import asked_of, combinations, prompt_sets
from benchmark.metrics import classification

# gloria 1.6: columns are regions and words.
IMAGES = torch.tensor([[[-1, 0, 1, 2], [0, 2, -1, 1], [1, -1, 2, 0]], [[1, 2, -2, -1], [-2, 0, 2, -1], [0, -2, 1, -1]]]).double()
TEXTS = [torch.tensor([[1, -1], [2, 1], [-1, -1]]).double(), torch.tensor([[0, 2], [1, 0], [2, 2]]).double()]
COSINES = {(0, 0): (0.822521, -0.095543), (0, 1): (0.437256, 0.981455), (1, 0): (0.503722, 0.688333), (1, 1): (0.444417, 0.149847)}
SUMMED = {(0, 0): 4.122704, (0, 1): 4.971012, (1, 0): 3.776210, (1, 1): 2.428505}
LARGEST = {(0, 0): 4.112606, (0, 1): 4.907277, (1, 0): 3.441665, (1, 1): 2.222083}


# -------------------------------------------------------------------------------------------------------- local similarity


@pytest.mark.parametrize("pair", COSINES)
def test_local_similarity_reproduces_glorias_vectors(pair: tuple[int, int]) -> None:
    image, text = pair
    assert loc.word_cosines(IMAGES, TEXTS[text])[image].tolist() == pytest.approx(COSINES[pair], abs=1e-6)
    assert float(loc.local_similarity(IMAGES, TEXTS[text], "sum")[image]) == pytest.approx(SUMMED[pair], abs=1e-6)
    assert float(loc.local_similarity(IMAGES, TEXTS[text], "max")[image]) == pytest.approx(LARGEST[pair], abs=1e-6)


def test_regions_and_words_of_two_spaces_have_no_similarity() -> None:
    with pytest.raises(UsageError, match="Regions of width 2 and words of width 3 have no similarity"):
        loc.local_similarity(IMAGES[:, :2], TEXTS[0], "sum")
    with pytest.raises(ConformanceError, match=r"embed_images\(\) gives places of width 3, embed_texts\(\) texts of width 4"):
        grounding.similarity_maps(torch.zeros(3, 2, 2), torch.zeros(1, 4))


def test_similarities_of_another_shape_than_images_by_prompts_are_refused() -> None:
    (prompts, *_) = prompt_sets(registry.prompts()["pairs-5"])
    n = len(prompts.texts)
    assert zero_shot.class_scores(lambda texts: np.zeros((2, len(texts))), prompts, "max").shape[0] == 2
    for shape in ((2, n + 1), (n,)):
        with pytest.raises(UsageError, match=f"expected one column for each of the {n} prompts"):
            zero_shot.class_scores(lambda texts, shape=shape: np.zeros(shape), prompts, "max")


def test_attention_and_losses_reproduce_glorias_vectors() -> None:
    assert loc.attention(IMAGES, TEXTS[0])[0, 0].tolist() == pytest.approx([0.015016, 0.315927, 0.173566, 0.495491], abs=1e-6)
    table = 10 * torch.stack([loc.local_similarity(IMAGES, text, "sum") for text in TEXTS], dim=1)
    right = torch.arange(2)
    assert float(F.cross_entropy(table, right)) == pytest.approx(10.980169, abs=1e-5)
    assert float(F.cross_entropy(table.T, right)) == pytest.approx(12.727934, abs=1e-5)


def test_zero_vectors_counted_as_words_change_the_score_as_released() -> None:
    padded = F.pad(TEXTS[0], (0, 2))
    assert loc.word_cosines(IMAGES, padded)[0].tolist() == pytest.approx([0.951345, -0.040613, 0, 0], abs=1e-6)
    assert float(loc.local_similarity(IMAGES, padded, "max")[0]) == pytest.approx(4.756724, abs=1e-6)


def test_best_words_are_those_of_each_text_alone_and_a_text_without_a_word_scores_zero() -> None:
    words, mask = torch.zeros(3, 3, 4), torch.zeros(3, 4, dtype=torch.bool)
    words[0, :, 1:3], words[1, :, :2] = TEXTS[0], TEXTS[1]
    mask[0, 1:3], mask[1, :2] = True, True
    found = loc.best_words(IMAGES.unflatten(2, (2, 2)), words, mask)
    expected = torch.tensor([[LARGEST[i, 0], LARGEST[i, 1], 0.0] for i in (0, 1)])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    with pytest.raises(UsageError, match="without a word"):
        loc.local_similarity(torch.zeros(1, 3, 4), torch.zeros(3, 0), "max")


# ----------------------------------------------------------------------------------------------------------------- prompts


def test_glorias_prompts_have_its_counts_and_its_draw() -> None:
    card = registry.prompts()["gloria-5x200"]
    listed = {name: combinations(parts) for name, parts in card.classes.items()}
    assert [len(texts) for texts in listed.values()] == [210, 15, 192, 18, 54]
    assert len(set(listed["Pleural Effusion"])) == 36
    drawn = prompt_sets(card)[0].positives
    expected = {
        "Atelectasis": (203, 146, 20, 124, 195),
        "Cardiomegaly": (4, 0, 13, 2, 10),
        "Consolidation": (150, 120, 188, 95, 81),
        "Edema": (0, 8, 15, 12, 3),
        "Pleural Effusion": (46, 26, 34, 43, 6),
    }
    for name, numbers in expected.items():
        assert drawn[name] == tuple(listed[name][k] for k in numbers)
    assert clean(listed["Atelectasis"][203]) == "minimal residual atelectasis at the left lung zone"
    assert clean(listed["Pleural Effusion"][46]) == "increased left subpulmonic pleural effusion"


def test_pairs_name_each_class_and_its_absence() -> None:
    first = prompt_sets(registry.prompts()["chexzero-pairs"])[0]
    assert first.positives["Edema"] == ("edema",)
    assert first.negatives["Pleural Effusion"] == ("no pleural effusion",)
    assert len(prompt_sets(registry.prompts()["pairs-5"])) == 5
    assert prompt_sets(registry.prompts()["prior-5x200"])[0].positives["Edema"] == ("Edema is observed",)


def test_a_draw_that_cannot_be_made_is_refused() -> None:
    card = PromptCard(name="few", title="", source="", classes={"edema": (("a", "b"),)}, draw=3, seed=1)
    with pytest.raises(CardError, match="cannot draw 3 of 2"):
        prompt_sets(card)


# ------------------------------------------------------------------------------------------------------------------ scores


def card_of(combine: str, negative: str | None = None) -> PromptCard:
    classes = {"a": (("one", "two"),), "b": (("three",),)}
    return PromptCard(name="c", title="", source="", classes=classes, templates=(PromptTemplate(negative=negative),), combine=combine)


def test_prompts_of_a_class_are_combined_by_the_cards_rule() -> None:
    table = {"one": 1.0, "two": 3.0, "three": -1.0}

    def similarities(texts):
        return np.array([[table[t] for t in texts]])

    for combine, expected in (("max", [3.0, -1.0]), ("mean", [2.0, -1.0])):
        scores = zero_shot.class_scores(similarities, prompt_sets(card_of(combine))[0], combine)
        assert scores.tolist() == [expected]


def test_a_pair_gives_the_chance_of_the_positive() -> None:
    table = {"one": 1.0, "two": 3.0, "three": 0.5, "no one": 1.0, "no two": 1.0, "no three": 0.5}
    found = zero_shot.class_scores(lambda texts: np.array([[table[t] for t in texts]]), prompt_sets(card_of("mean", "no {}"))[0], "mean")
    assert found[0].tolist() == pytest.approx([np.exp(2) / (np.exp(2) + np.exp(1)), 0.5])


def test_standardising_is_the_only_step_that_looks_at_other_images() -> None:
    scores = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert zero_shot.standardised(scores).tolist() == [[-1, 0], [1, 0]]
    assert zero_shot.standardised(scores[:1]).tolist() == [[1.0, 5.0]]


@pytest.mark.parametrize("n_images", [7, 10, 1000])
def test_a_class_that_scores_the_same_everywhere_is_standardised_to_zero_though_its_mean_rounds(n_images: int) -> None:
    assert not zero_shot.standardised(np.full((n_images, 2), [0.1, -0.7])).any()


def test_a_score_that_is_no_number_is_not_standardised_away() -> None:
    found = zero_shot.standardised(np.array([[1.0, 5.0], [np.nan, 6.0], [2.0, 7.0]]))
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()
    with pytest.raises(TrainingError, match="not finite"):
        classification.rank(found, np.array([[1, 0], [0, 1], [0, 1]]))


def test_prompts_that_no_card_has_and_classes_without_words_are_named() -> None:
    task = next(card for card in registry.tasks().values() if card.words is not None and card.words.prompts is not None)
    about = registry.dataset(task.dataset)
    ref = DatasetRef(
        name=about.name,
        digest="d",
        split=task.split,
        split_rule=about.splits[task.split],
        classes=("of nobody",),
        target="labels",
        intensity="as-stored",
        statistics=about.statistics,
    )
    with pytest.raises(CardError, match=f"Task {task.id} asks with the prompts '{task.words.prompts}', which no card in tasks/ defines"):
        asked_of(task, task.words, ref, {})
    with pytest.raises(CardError, match=f"have no words for of nobody, which task {task.id} asks for"):
        asked_of(task, task.words, ref, registry.prompts())
