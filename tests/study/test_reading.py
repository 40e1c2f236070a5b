"""A study's file: what is wrong is said with its line, and every name in it exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmark import registry
from benchmark.cards.pretraining import StageCard
from benchmark.errors import CardError
from benchmark.study import reading
from benchmark.study.members import members

STUDY = """\
name: small
title: Small
recipes: [convirt-phantom, lovt-phantom]
seeds: [0, 1]
budget:
  pairs: 640
  checkpoints: [0.5]
claims:
  - recipe: lovt-phantom
    against: convirt-phantom
    measures: [rsna-linear-frozen-rehearsal]
    says: places help
ablations:
  - recipe: lovt-phantom
    without: lovt-global-phantom
    part: local losses
ladder: {recipe: lovt-phantom, shares: [0.25]}
shuffled: [lovt-phantom]
evaluation: {suite: rehearsal}
"""


def read(folder: Path, text: str = STUDY):
    path = folder / "study.yaml"
    path.write_text(text)
    return reading.read(path)


WRONG = {
    "a key that nobody reads": ("  pairs: 640", "  pears: 640", r"study\.yaml:6: key 'budget\.pears': Extra inputs"),
    "a recipe that there is not": ("[convirt-phantom,", "[convirt-fantom,", r"study\.yaml:10: claims\.0\.against: convirt-phantom is none"),
    "an unknown recipe": ("without: lovt-global-phantom", "without: lovt-glob", r"study\.yaml:15: key 'ablations\.0\.without'.*lovt-glob"),
    "an ablation of another method": ("lovt-global-phantom", "gloria-global-phantom", r"study\.yaml:15: .*a recipe of gloria, and"),
    "a claim on a task that is not judged": ("[rsna-linear-frozen-r", "[rsna-linear-r", r"study\.yaml:11: .*no task of the evaluation"),
    "a claim of a method that is not compared": ("  - recipe: lovt-phantom\n    ag", "  - recipe: mgca-phantom\n    ag", r"yaml:9: claims"),
    "shares that do not rise": ("[0.5]", "[0.5, 0.25]", r"study\.yaml:7: key 'budget\.checkpoints': .*rising shares"),
    "the whole as a rung": ("shares: [0.25]", "shares: [0.25, 1.0]", r"study\.yaml:17: key 'ladder\.shares': .*between 0 and 1"),
    "nothing that judges": ("{suite: rehearsal}", "{runs: 3}", r"study\.yaml:19: key 'evaluation': no suite and no tasks"),
    "a method on other terms": ("lovt-phantom]\nseeds", "lovt-phantom, lovt-shuffled-phantom]\nseeds", "yaml:3: .*another `pairs.is_shuff"),
    "a protocol that a task does not offer": ("{suite: rehearsal}", "{suite: rehearsal, protocol: published}", "yaml:19: .*it offers lobe"),
    "a seed twice": ("[0, 1]", "[0, 0]", r"study\.yaml:4: seeds: one stands there twice"),
    "no YAML": ("name: small", "name: [", r"study\.yaml: not valid YAML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_line(case, tmp_path):
    old, new, said = WRONG[case]
    assert old in STUDY
    with pytest.raises(CardError, match=said):
        read(tmp_path, STUDY.replace(old, new, 1))


@pytest.fixture
def beside(tmp_path):
    """Puts a recipe `beside` into a folder of one's own: LoVT's, with one key of one part changed."""
    before = list(registry._included)

    def write(part: str, key: str, value: object) -> None:
        card = registry.recipe("lovt-phantom")
        changed = getattr(card, part).model_copy(update={key: value})
        told = card.model_copy(update={"name": "beside", part: changed}).model_dump(mode="json")
        (tmp_path / "own" / "tasks").mkdir(parents=True)
        (tmp_path / "own" / "tasks" / "own.yaml").write_text(yaml.safe_dump({"pretraining": [told]}))
        registry.include(tmp_path / "own")

    yield write
    registry._included[:] = before
    registry.forget()


DECIDES = {
    "pairs": {
        "sections": ("impression",),
        "needs_sections": True,
        "sentence_rule": "gloria",
        "fewest_words": 2,
        "fewest_sentences": 4,
        "unit": "study",
        "held_out_view": "drawn",
        "share_of": "first",
        "frame": "resized",
    },
    "image": {"size": 96},
    "text": {"tokens": 64},
    "budget": {"batch": 64, "order": "once", "warm_up": 0.2, "lowest": 0.1},
    "optimiser": {"rate": 0.001},
}
WHOLE = {"budget": {"group": 16, "stages": (StageCard(begins=0, rate=1.0, warm_up=0.1),)}}  # by design of a method, but of no ablation


def each(keys: dict[str, dict[str, object]]) -> list[tuple[str, str, object]]:
    return [(part, key, value) for part, content in keys.items() for key, value in content.items()]


@pytest.mark.parametrize(("part", "key", "value"), each(DECIDES))
def test_recipes_and_ablations_that_are_unequal_in_more_than_the_method_are_refused(part, key, value, tmp_path, beside):
    beside(part, key, value)
    with pytest.raises(CardError, match=rf"yaml:3: .*beside has another `{part}\.{key}` than convirt-phantom: methods are compared on eq"):
        read(tmp_path, STUDY.replace("lovt-phantom]\nseeds", "lovt-phantom, beside]\nseeds"))
    with pytest.raises(CardError, match=rf"yaml:15: .*beside has another `{part}\.{key}` than lovt-phantom: an ablation differs in its"):
        read(tmp_path, STUDY.replace("without: lovt-global-phantom", "without: beside"))


@pytest.mark.parametrize(("part", "key", "value"), each(WHOLE))
def test_what_a_method_may_need_of_its_own_no_ablation_needs(part, key, value, tmp_path, beside):
    beside(part, key, value)
    assert "beside" in read(tmp_path, STUDY.replace("lovt-phantom]\nseeds", "lovt-phantom, beside]\nseeds")).recipes
    with pytest.raises(CardError, match=rf"yaml:15: .*another `{part}\.{key}` than lovt-phantom: an ablation"):
        read(tmp_path, STUDY.replace("without: lovt-global-phantom", "without: beside"))


FREE = {"pairs": {"sentences": "one", "joined": "text"}, "budget": {"schedule": "cosine", "pairs": 64}}


@pytest.mark.parametrize(("part", "key", "value"), each(FREE))
def test_what_is_drawn_of_a_report_is_the_method_and_the_schedule_is_the_studys(part, key, value, tmp_path, beside):
    beside(part, key, value)
    assert "beside" in read(tmp_path, STUDY.replace("lovt-phantom]\nseeds", "lovt-phantom, beside]\nseeds")).recipes


def test_a_study_that_is_no_file_is_looked_for_among_the_shipped_ones(tmp_path):
    assert reading.read(Path("phantom")).name == "phantom"
    with pytest.raises(CardError, match=r"no shipped study of that name; there are phantom"):
        reading.read(Path("fantom"))


def test_members_come_seed_by_seed_with_the_budget_of_the_study(tmp_path):
    found = members(read(tmp_path))
    assert [one.label for one in found[:5]] == [
        "convirt-phantom-0",
        "lovt-phantom-0",
        "lovt-global-phantom-0",
        "lovt-phantom-shuffled-0",
        "lovt-phantom-on-25-0",
    ]
    assert [one.seed for one in found] == [0] * 5 + [1] * 5
    assert {one.recipe.budget.pairs for one in found} == {640}
    assert [one.keeps for one in found[:3]] == [(0, 320, 640), (0, 320, 640), (640,)]
    assert [one.recipe.pairs.is_shuffled for one in found[:5]] == [False, False, False, True, False]
    assert [one.recipe.pairs.share for one in found[:5]] == [1, 1, 1, 1, 0.25]
    assert len({one.address for one in found}) == 10


def test_another_budget_is_another_folder(tmp_path):
    one = members(read(tmp_path))[0]
    other = members(read(tmp_path, STUDY.replace("640", "320")))[0]
    assert one.label == other.label
    assert one.folder(tmp_path) != other.folder(tmp_path)


def test_where_methods_cost_the_same_compute_is_kept_too(tmp_path):
    found = members(read(tmp_path), {"convirt-phantom": 640, "lovt-phantom": 192})
    assert [one.keeps for one in found[:2]] == [(0, 320, 640), (0, 192, 320, 640)]


def test_every_shipped_study_can_be_read_and_compares_equal_pairs_towers_and_budget():
    for name in reading.shipped():
        card = reading.read(Path(name))
        recipes = [registry.recipe(one) for one in (*card.recipes, *(one.without for one in card.ablations))]
        for same in ("image", "text", "budget", "optimiser", "protocol"):
            assert len({str(getattr(one, same)) for one in recipes}) == 1, same
        assert len({one.pairs.model_copy(update={"sentences": "all", "joined": "tokens"}).canonical for one in recipes}) == 1


def test_the_study_on_the_page_can_be_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")
    (study,) = (block.split("```")[0] for block in page.split("```yaml\n")[1:] if block.startswith("name: "))
    card = read(tmp_path, study)
    assert (card.name, len(members(card)), card.budget.minutes) == ("mine", 3 * 6, 30)


def test_the_shipped_study_judges_by_small_tasks_without_a_search() -> None:
    """A study judges every checkpoint: by a search, or at 224 pixels, that takes longer than all its pretraining."""
    judged = reading.read(Path("phantom")).evaluation
    assert (judged.suite, judged.tasks) == ("study", ())
    for task in map(registry.task, registry.suite("study").tasks):
        assert (task.frame_size, task.protocols, task.recipe.grid) == (96, ("corrected",), ())
        assert task.published is None
