"""What a card may ask for: each task that cannot be is refused with a sentence when it is planned, and every shipped card passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmark import cli, registry, resolve, task_rules
from benchmark.cards import EncoderMode, TaskCard, Words
from benchmark.errors import CardError

MASKS, BOXES, LABELS = "rsna-linear-frozen-100", "rsna-yolov3-frozen-100", "nih-labels-linear-frozen-100-lobe"
ASKED, FOUND, POINTED = "rsna-labels-zero-shot-lobe", "mimic-cxr-retrieval-lobe", "ms-cxr-grounding-lobe"


@pytest.fixture
def include(tmp_path: Path) -> Iterator:
    """Writes cards of a section into a folder of the user's own; forgotten again afterwards."""
    before = list(registry._included)

    def write(**sections: list[dict]) -> Path:
        for section, listed in sections.items():
            folder = tmp_path / ("tasks" if section in ("suites", "prompts", "grids") else section)
            folder.mkdir(exist_ok=True)
            (folder / f"my-{section}.yaml").write_text(yaml.safe_dump({section: listed}), encoding="utf-8")
        return tmp_path

    yield write
    registry._included[:] = before
    registry.forget()


def faults(task: TaskCard) -> list[str]:
    return task_rules.task_faults(task, registry.datasets(), registry.prompts(), registry.protocols())


def changed(task_id: str, **update) -> TaskCard:
    recipe = {key.removeprefix("recipe_"): update.pop(key) for key in list(update) if key.startswith("recipe_")}
    card = registry.task(task_id)
    return card.model_copy(update={**update, "recipe": card.recipe.model_copy(update=recipe)})


REFUSED = [
    (MASKS, {"head": "lineer"}, "`head` names 'lineer', and there is no such head. Did you mean linear"),
    (MASKS, {"head": "pyramid"}, "`head` names 'pyramid'"),
    (MASKS, {"head": "yolov3"}, "`target` is masks, and the head yolov3 takes boxes. Heads for masks: linear, smp_unet, unet."),
    (BOXES, {"target": "masks"}, "`target` is masks, and the head yolov3 takes boxes"),
    (MASKS, {"head": "classifier", "target": "labels"}, "`target` is labels, for which rsna has no labels. It has: boxes, masks."),
    ("siim-unet-frozen-100", {"target": "boxes", "head": "yolov3"}, "for which siim has no boxes"),
    (MASKS, {"dataset": "rsnaa"}, "`dataset` names 'rsnaa', and there is no such dataset. Did you mean rsna"),
    (MASKS, {"split": "lovtt"}, "`split` is 'lovtt', which rsna does not have. It offers: lovt, patient-disjoint, size-matched."),
    (
        MASKS,
        {"select": "opacity_dise"},
        "`select` is opacity_dise, which the head linear on rsna never computes. Did you mean opacity_dice",
    ),
    (MASKS, {"report": "mAP"}, "`report` is mAP, which the head linear on rsna never computes"),
    (MASKS, {"report": "nsd"}, "`report` is nsd"),  # RSNA's masks are filled boxes: their outlines mean nothing
    (MASKS, {"report": "negative_loss"}, "`report` is negative_loss"),
    (MASKS, {"report": "pneumothorax_dice"}, "`report` is pneumothorax_dice, which the head linear on rsna never computes"),
    (MASKS, {"select": "pixel_ap"}, "`select` is pixel_ap"),  # of the test alone: no epoch has it
    (BOXES, {"select": "avg_dice"}, "`select` is avg_dice, which the head yolov3 on rsna never computes"),
    (BOXES, {"select": "negative_loss"}, "`select` is negative_loss"),
    (BOXES, {"report": "opacity_mAP"}, "`report` is opacity_mAP"),  # the only class needs no column of its own
    (BOXES, {"select": "calibration_error"}, "`select` is calibration_error, which the head yolov3 on rsna never computes"),
    (BOXES, {"report": "calibration_error"}, "`report` is calibration_error, whose lowest value is the best"),
    (LABELS, {"report": "kappa"}, "`report` is kappa, which the head classifier on nih-labels never computes"),
    (LABELS, {"report": "Pneumonia_auroc_"}, "Did you mean Pneumonia_auroc"),
    (LABELS, {"select": "none"}, "`select` is none, which the head classifier"),
    (MASKS, {"fraction": 0.0}, "`fraction` is 0; a share of the training images above 0 and up to 1"),
    (MASKS, {"fraction": 10.0}, "`fraction` is 10;"),
    (MASKS, {"runs": 0}, "`runs` is 0; at least 1."),
    (MASKS, {"protocols": ()}, "`protocols` is empty"),
    (MASKS, {"protocols": ("publishd",)}, "`protocols` names 'publishd', and there is no such protocol. Did you mean published"),
    (MASKS, {"recipe_batch_size": 0}, "`recipe.batch_size` is 0; at least 1."),
    (MASKS, {"recipe_max_epochs": 0}, "`recipe.max_epochs` is 0; at least 1."),
    (MASKS, {"recipe_validation_subset": 0.0}, "`recipe.validation_subset` is 0;"),
    (MASKS, {"recipe_grid": (0.1, 0.1)}, "`recipe.grid` has 0.1 twice."),
    (MASKS, {"recipe_grid": (), "recipe_learning_rate": -1.0}, "`recipe` learns at a rate of -1; a rate is above 0."),
    (BOXES, {"recipe_augmentation": "scale-rotate"}, "`recipe.augmentation` moves images and masks; boxes would stay where they were."),
    (MASKS, {"words": Words(prompts="gloria-5x200")}, "`words` is of tasks that train nothing, and the head linear is trained."),
    (ASKED, {"words": None}, "the head zero_shot compares images with words: say what is asked under `words`."),
    (ASKED, {"words": Words()}, "`words.prompts` names none, and zero-shot classification asks with prompts."),
    (
        ASKED,
        {"words": Words(prompts="pairs-6")},
        "`words.prompts` names 'pairs-6', and there is no such set of prompts. Did you mean pairs-5",
    ),
    (ASKED, {"words": Words(prompts="gloria-5x200")}, "`words.prompts` is gloria-5x200, which has no words for opacity of rsna-labels."),
    (ASKED, {"encoder": EncoderMode.FINETUNE}, "`encoder` is finetune, and a task that trains nothing has a frozen one."),
    (ASKED, {"select": "auroc"}, "`select` is auroc, and a task that trains nothing selects nothing: write none."),
    (ASKED, {"report": "cnr"}, "`report` is cnr, which the head zero_shot on rsna-labels never computes"),
    (FOUND, {"words": Words(prompts="pairs-5")}, "`words.prompts` is of grounding and zero-shot classification"),
    (FOUND, {"words": Words(own_report="removed")}, "`words.own_report` is removed"),
    (ASKED, {"words": Words(prompts="pairs-5", rerank=5)}, "`words.rerank` is of retrieval."),
    (FOUND, {"words": Words(rerank=0)}, "`words.rerank` is 0; a number from 1 on."),
    (FOUND, {"report": "image_to_text_hit@7"}, "`report` is image_to_text_hit@7"),
    (FOUND, {"report": "duplicate_rate"}, "`report` is duplicate_rate, whose lowest value is the best"),
    ("open-i-retrieval-lobe", {"words": Words(matches="class")}, "`words.matches` is class, for which open-i has no labels."),
]


@pytest.mark.parametrize(("task_id", "update", "said"), REFUSED, ids=[f"{row[0]}-{'-'.join(row[1])}-{n}" for n, row in enumerate(REFUSED)])
def test_task_that_cannot_be_is_refused_with_a_sentence(task_id: str, update: dict, said: str) -> None:
    assert not faults(registry.task(task_id))
    assert said in "\n".join(faults(changed(task_id, **update)))


@pytest.mark.parametrize("task", registry.tasks().values(), ids=lambda task: task.id)
def test_every_shipped_task_passes(task: TaskCard) -> None:
    assert faults(task) == []


def test_every_other_shipped_card_passes() -> None:
    assert {card.name: found for card in registry.datasets().values() if (found := task_rules.dataset_faults(card))} == {}
    assert {card.name: found for card in registry.backbones().values() if (found := task_rules.backbone_faults(card))} == {}
    assert {card.name: found for card in registry.prompts().values() if (found := task_rules.prompt_faults(card))} == {}
    every = (registry.tasks(), registry.protocols())
    assert {
        card.name: found
        for card in registry.suites().values()
        if (found := task_rules.suite_faults(card, *every, registry.suites(), registry.backbones()))
    } == {}
    every = (registry.suites(), registry.protocols())
    assert {card.name: found for card in registry.papers().values() if (found := task_rules.paper_faults(card, *every))} == {}


def test_a_suite_may_only_name_suites_and_backbones_that_are_there() -> None:
    card = registry.suite("lobe-v1").model_copy(update={"reference": "imagenet-resnet51", "extended": "lobe-v2"})
    every = (registry.tasks(), registry.protocols(), registry.suites(), registry.backbones())
    (extended, reference) = task_rules.suite_faults(card, *every)
    assert extended.startswith("`extended` names 'lobe-v2', and there is no such suite.")
    assert reference.startswith("`reference` names 'imagenet-resnet51', and there is no such backbone. Did you mean imagenet-resnet50")


@pytest.mark.parametrize(
    ("task", "track"),
    [
        ("rsna-linear-frozen-100", "linear-frozen"),
        ("rsna-labels-linear-frozen-10-mgca", "linear-frozen"),
        ("rsna-yolov3-frozen-100", "head-frozen"),
        ("siim-unet-frozen-100", "head-frozen"),
        ("siim-unet-finetune-100", "fine-tuned"),
        ("nih-labels-linear-finetune-1-g2d", "fine-tuned"),
        ("ms-cxr-grounding-lobe", "text"),
    ],
)
def test_a_task_belongs_to_one_track(task: str, track: str) -> None:
    assert task_rules.track_of(registry.task(task)) == track


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"targets": ()}, "`targets` is empty: nothing can be asked of it."),
        ({"mask_source": "none"}, "`mask_source` is none and `targets` are boxes, masks: they say different things of masks."),
        ({"classes": ("a", "b", "a")}, "`classes` has a twice."),
        ({"classes": ()}, "`classes` is empty, and only reports need none."),
        ({"splits": {}}, "`splits` is empty: a dataset has at least one."),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, dict) else "",
)
def test_a_dataset_card_that_contradicts_itself_is_refused_with_a_sentence(update: dict, said: str) -> None:
    card = registry.dataset("rsna")
    assert said in task_rules.dataset_faults(card.model_copy(update=update))
    assert said not in task_rules.dataset_faults(card)


@pytest.mark.parametrize(("share", "is_one"), [(0.0, False), (-0.1, False), (1.01, False), (0.01, True), (1.0, True)])
def test_a_share_of_weights_that_is_none_is_refused(share: float, is_one: bool) -> None:
    card = next(iter(registry.backbones().values())).model_copy(update={"minimum_loaded": share})
    assert any("a share above 0 and up to 1" in fault for fault in task_rules.backbone_faults(card)) is not is_one


def test_a_card_asks_about_its_own_family_alone_and_one_that_is_none_is_told_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask opens a module's file: with all of them for every card, sixty cards kept each command waiting for twelve seconds."""
    asked: list[str] = []
    defines = registry.defines
    monkeypatch.setattr(registry, "defines", lambda room, name, function: asked.append(name) or defines(room, name, function))
    card = next(card for card in registry.backbones().values() if card.family == "torchvision")
    assert (task_rules.backbone_faults(card), asked) == ([], ["torchvision"])
    (fault,) = task_rules.backbone_faults(card.model_copy(update={"family": "torchvison"}))
    assert "torchvision" in fault
    assert "naming" in asked
    (fault,) = task_rules.backbone_faults(card.model_copy(update={"family": "naming"}))  # a module of the room, and no family
    assert "family" in fault


@pytest.mark.parametrize("template", ["{word}", "{", "{1}"])
def test_a_template_that_cannot_be_filled_in_is_refused(template: str) -> None:
    card = registry.prompts()["pairs-5"]
    changed = card.templates[0].model_copy(update={"positive": template})
    (fault,) = task_rules.prompt_faults(card.model_copy(update={"templates": (changed,)}))
    assert fault.startswith("`templates` cannot be filled in (")
    assert "`{}` stands for a class's words" in fault


def test_a_suites_protocol_is_there_and_all_its_tasks_offer_it() -> None:
    suite = registry.suite("lovt-18")
    every = (registry.tasks(), registry.protocols(), registry.suites(), registry.backbones())
    unknown = task_rules.suite_faults(suite.model_copy(update={"default_protocol": "publishd"}), *every)
    assert [fault.startswith("`default_protocol` names 'publishd'") for fault in unknown] == [True]
    tasks = registry.tasks() | {suite.tasks[2]: registry.task(suite.tasks[2]).model_copy(update={"protocols": ()})}
    (fault,) = task_rules.suite_faults(suite, tasks, *every[1:])
    assert fault == f"`default_protocol` is {suite.default_protocol}, which {suite.tasks[2]} do not offer."


def test_refusal_names_the_file_and_everything_at_once(include) -> None:
    card = registry.task(MASKS).model_dump(mode="json") | {"id": "mine", "head": "lineer", "split": "nowhere", "runs": 0}
    registry.include(include(tasks=[card]))
    for check in (task_rules.require_included, lambda: resolve.tasks(["mine"], None)):
        with pytest.raises(CardError) as caught:
            check()
        text = str(caught.value)
        assert text.startswith("my-tasks.yaml: task mine:")
        assert all(f"`{key}`" in text for key in ("head", "split", "runs"))


def test_included_cards_of_every_kind_are_checked_when_they_are_loaded(include) -> None:
    dataset = registry.dataset("siim").model_dump(mode="json")
    backbone = next(iter(registry.backbones().values())).model_dump(mode="json")
    prompts = registry.prompts()["gloria-5x200"].model_dump(mode="json")
    folder = include(
        datasets=[dataset | {"name": "mine", "targets": ["masks", "boxes"]}, dataset | {"name": "other", "reader": "siimm"}],
        backbones=[backbone | {"name": "net", "family": "torchvison", "contamination": {"rsnaa": "images"}}],
        prompts=[prompts | {"name": "many", "draw": 10**6}],
        suites=[{"name": "all", "title": "All", "description": "All.", "tasks": ["no-task"]}],
    )
    done = CliRunner().invoke(cli.app, ["--include", str(folder), "list", "datasets"])
    text = str(done.exception)
    for said in (
        "my-datasets.yaml: dataset mine:\n  - `targets` has boxes, which the reader siim does not give; it gives",
        "dataset other:\n  - `reader` names 'siimm', and there is no such reader. Did you mean siim",
        "my-backbones.yaml: backbone net:\n  - `family` names 'torchvison', and there is no such family of backbones. Did you mean t",
        "`contamination` names 'rsnaa'",
        "my-prompts.yaml: prompt many:\n  - Prompts many",
        "my-suites.yaml: suite all:\n  - `tasks` names 'no-task'",
    ):
        assert said in text


@pytest.mark.parametrize("grid", [{"heads": {"rsnaa": ["linear"]}}, {"heads": {"rsna": ["lineer"]}}], ids=["dataset", "head"])
def test_a_grid_of_what_is_not_there_is_a_sentence(include, grid: dict) -> None:
    card = registry.grids()["grid"].model_dump(mode="json") | {"name": "mine"} | grid
    registry.include(include(grids=[card]))
    with pytest.raises(CardError, match=r"Grid mine: .*(rsnaa|lineer)"):
        registry.tasks()
