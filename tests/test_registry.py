"""What finding content promises: LoVT's recipes to the digit, errors that name file and key, and no framework dragged in."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import Contamination, Switches, TaskCard
from benchmark.errors import CardError, UnknownName
from benchmark.task_rules import track_of

TASK = """
tasks:
  - id: my-linear-frozen-100
    version: 1
    title: Mine
    dataset: rsna
    head: linear
    encoder: frozen
    fraction: 1.0
    target: masks
    recipe: { batch_size: 8, learning_rate: 0.01, max_epochs: 5, patience: 2 }
    select: opacity_dice
    report: opacity_dice
    protocols: [published]
"""

# LoVT's released configurations: number, id, batch, rate in the configuration, grid in the order tried, epochs, patience, warm-up, metric.
LOVT = [
    (1, "rsna-yolov3-finetune-1", 8, 1e-4, (3e-4, 1e-4), 500, 20, 100, "mAP"),
    (2, "rsna-yolov3-finetune-10", 64, 3e-4, (3e-4, 1e-3), 100, 10, 100, "mAP"),
    (3, "rsna-yolov3-finetune-100", 64, 1e-4, (3e-4, 1e-4), 50, 10, 100, "mAP"),
    (4, "rsna-yolov3-frozen-1", 8, 1e-3, (1e-3, 3e-4), 500, 20, 0, "mAP"),
    (5, "rsna-yolov3-frozen-10", 64, 1e-3, (), 100, 10, 0, "mAP"),
    (6, "rsna-yolov3-frozen-100", 64, 1e-3, (3e-4, 1e-3), 50, 10, 0, "mAP"),
    (7, "rsna-linear-frozen-1", 8, 1e-2, (3e-2, 1e-2, 3e-3, 1e-4), 500, 20, 0, "opacity_dice"),
    (8, "rsna-linear-frozen-10", 64, 3e-2, (3e-2, 1e-2, 3e-3, 1e-3), 100, 10, 0, "opacity_dice"),
    (9, "rsna-linear-frozen-100", 64, 1e-2, (3e-2, 1e-2, 3e-3, 1e-3), 50, 10, 0, "opacity_dice"),
    (10, "covid-rural-unet-finetune-100", 8, 1e-4, (1e-4, 3e-4), 100, 20, 20, "opacity_dice"),
    (11, "covid-rural-unet-frozen-100", 8, 3e-4, (1e-4, 3e-4, 1e-3), 100, 20, 0, "opacity_dice"),
    (12, "covid-rural-linear-frozen-100", 8, 3e-2, (3e-2, 1e-2, 3e-3, 1e-3), 100, 20, 0, "opacity_dice"),
    (13, "siim-unet-finetune-100", 64, 1e-3, (3e-5, 1e-5), 50, 10, 100, "pneumothorax_dice"),
    (14, "siim-unet-frozen-100", 64, 1e-3, (3e-5, 1e-5), 50, 10, 0, "pneumothorax_dice"),
    (15, "object-cxr-yolov3-finetune-100", 64, 3e-4, (1e-3, 3e-4), 100, 10, 100, "froc"),
    (16, "object-cxr-yolov3-frozen-100", 64, 1e-3, (1e-3, 3e-3), 100, 10, 0, "froc"),
    (17, "object-cxr-linear-frozen-100", 64, 1e-2, (3e-1, 1e-1, 3e-2, 1e-2), 100, 10, 0, "avg_dice"),
    (18, "nih-cxr-linear-frozen-100", 64, 1e-2, (1e-1, 3e-2, 1e-2), 100, 10, 0, "avg_dice"),
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A user's folder with one task of their own, forgotten again afterwards."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(TASK, encoding="utf-8")
    before = list(registry._included)
    yield tmp_path
    registry._included[:] = before
    registry.forget()


# ------------------------------------------------------------------------------------------------------- shipped content


@pytest.mark.parametrize(("number", "task_id", "batch", "rate", "grid", "epochs", "patience", "warmup", "metric"), LOVT)
def test_lovt_recipe_is_that_of_the_released_configuration(
    number: int, task_id: str, batch: int, rate: float, grid: tuple, epochs: int, patience: int, warmup: int, metric: str
) -> None:
    task = registry.task(task_id)
    recipe = task.recipe
    assert (recipe.batch_size, recipe.learning_rate, recipe.grid) == (batch, rate, grid)
    assert (recipe.max_epochs, recipe.patience, recipe.max_steps) == (epochs, patience, None)
    assert recipe.warmup_steps == warmup
    assert (task.select, task.report) == (metric, metric)
    assert registry.suite("lovt-18").tasks[number - 1] == task_id
    assert task.published == ("lovt", task_id)


@pytest.mark.parametrize("task_id", [row[1] for row in LOVT])
def test_lovt_settings_common_to_all_tasks(task_id: str) -> None:
    """What all of LoVT's released configurations share."""
    task = registry.task(task_id)
    recipe = task.recipe
    assert recipe.weight_decay == 1e-6
    assert (recipe.plateau_factor, recipe.plateau_patience) == (0.5, 3)
    assert recipe.min_delta == 1e-5
    assert recipe.warmup_learning_rate == 1e-3
    assert recipe.drop_last
    assert task.runs == 5
    assert task.protocols == ("published", "corrected")
    # Only the RSNA configurations validate on a part.
    assert recipe.validation_subset == (0.1 if task.dataset == "rsna" else 1.0)


@pytest.mark.parametrize("task_id", [row[1] for row in LOVT])
def test_id_of_a_lovt_task_says_dataset_head_mode_and_share(task_id: str) -> None:
    task = registry.task(task_id)
    assert task_id == f"{task.dataset}-{task.head}-{task.encoder}-{task.fraction * 100:.0f}"
    assert task.target == ("boxes" if task.head == "yolov3" else "masks")


def test_suite_lovt_18_is_the_eighteen_tasks_in_the_papers_order() -> None:
    assert registry.suite("lovt-18").tasks == tuple(row[1] for row in LOVT)


def test_suites_name_tasks_and_protocols_that_exist() -> None:
    for suite in registry.suites().values():
        assert suite.default_protocol in registry.protocols()
        for task_id in suite.tasks:
            task = registry.task(task_id)
            assert suite.default_protocol in task.protocols
    for task in registry.tasks().values():
        assert set(task.protocols) <= set(registry.protocols())


def test_suite_full_is_the_union_of_all_suites_and_no_task_is_left_out() -> None:
    full = registry.suite("full")
    small = {task for name in ("demo", "demo-words", "rehearsal", "study") for task in registry.suite(name).tasks}
    of_the_leaderboard = {
        name for name, task in registry.tasks().items() if set(task.protocols) <= {"lobe", "lobe-native"} and name not in small
    }
    others = {task for suite in registry.suites().values() if suite.name != "full" for task in suite.tasks}
    assert len(full.tasks) == len(set(full.tasks))
    assert set(full.tasks) == others - small - of_the_leaderboard == set(registry.tasks()) - small - of_the_leaderboard
    assert of_the_leaderboard < {task for name in ("lobe-v1", "lobe-v1-extended") for task in registry.suite(name).tasks}
    assert all(full.default_protocol in registry.task(name).protocols for name in full.tasks)
    assert full.tasks[:18] == registry.suite("lovt-18").tasks


def test_demo_has_a_small_task_for_each_head() -> None:
    tasks = [registry.task(name) for name in registry.suite("demo").tasks]
    assert {task.head for task in tasks} == {"linear", "unet", "yolov3"}
    for task in tasks:
        assert task.id.endswith("-demo")
        assert task.published is None
        assert task.runs == 1
        assert task.recipe.grid == ()
        assert task.recipe.max_steps is not None
        # The step budget ends training: at one batch an epoch, neither epochs nor patience do so earlier.
        assert min(task.recipe.max_epochs, task.recipe.patience) >= task.recipe.max_steps


def test_corrected_differs_from_published_in_every_switch_of_lovts_and_nothing_else() -> None:
    """Those in which they agree are of other protocols, and both leave them as they were before there was the switch."""
    published, corrected = (registry.protocol(name).switches for name in ("published", "corrected"))
    alike = {name: getattr(corrected, name) for name in Switches.model_fields if getattr(published, name) == getattr(corrected, name)}
    assert alike.items() <= Switches.came_later().items()
    assert len(Switches.model_fields) - len(alike) == 6
    published, corrected = registry.protocol("published"), registry.protocol("corrected")
    assert (published.statistics, published.equalise) == (corrected.statistics, corrected.equalise)


@pytest.mark.parametrize("task", registry.tasks().values(), ids=lambda task: task.id)
def test_card_of_every_shipped_task_names_a_shipped_dataset_and_head(task: TaskCard) -> None:
    assert task.dataset in registry.datasets()
    assert (Path(registry.__file__).parent / "heads" / f"{task.head}.py").is_file()


@pytest.mark.parametrize("task", registry.tasks().values(), ids=lambda task: task.id)
def test_dice_a_task_reports_is_of_a_class_of_its_dataset(task: TaskCard) -> None:
    dice = {"avg_dice", *(f"{name}_dice" for name in registry.dataset(task.dataset).classes)}
    of_labels = {"negative_loss", "auroc", "ap", "accuracy", "f1", "mcc"}
    if task.words is not None:  # nothing is trained, so nothing is selected
        of_words = {
            "labels": of_labels - {"negative_loss"},
            "reports": {"image_to_text_hit@5", "image_to_text_precision@5"},
            "phrases": {"cnr"} if task.words.found_in == "boxes" else {"mask_iou"},
        }
        assert task.select == "none"
        assert task.report in of_words[task.target]
        return
    of_masks = dice | {"image_dice_all", "negative_loss"}
    of_boxes = {"mAP", "froc", "froc_full", "AP40_75_full", "mAP_mgca_all"}
    of_maps = {"negative_loss", "mask_iou"}
    known = {"masks": of_masks, "boxes": of_boxes, "labels": of_labels, "labels-to-masks": of_maps}[task.target]
    assert task.report != "negative_loss"
    assert {task.select, task.report} <= known


# --------------------------------------------------------------------------------------------------------- the leaderboard's suite

CORE = [registry.task(name) for name in registry.suite("lobe-v1").core]
EXTENDED = [registry.task(name) for name in registry.suite(registry.suite("lobe-v1").extended).tasks]


def test_the_core_has_nineteen_tasks_in_three_tracks() -> None:
    tracks = Counter(map(track_of, CORE))
    assert tracks == {"linear-frozen": 8, "head-frozen": 6, "fine-tuned": 5}
    assert all(task.runs == 5 and task.protocols == ("lobe", "lobe-native") for task in CORE)


def test_the_core_rests_on_data_that_anybody_can_have_after_a_click() -> None:
    assert {registry.dataset(task.dataset).terms for task in CORE} <= {"download", "account"}
    assert all(registry.dataset(task.dataset).redistribution != "none" for task in CORE)
    assert not {task.dataset for task in CORE} & {task.dataset for task in EXTENDED}


def test_the_page_states_the_terms_that_the_cards_of_its_datasets_do() -> None:
    page = (Path(__file__).parents[1] / "docs" / "protocols" / "lobe.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.partition("## Data and their terms")[2].splitlines() if line.startswith("| ")]
    for card in {registry.dataset(task.dataset).name: registry.dataset(task.dataset) for task in (*CORE, *EXTENDED)}.values():
        (terms,) = [terms for names, terms in rows if card.title.split()[0] in names.replace(",", "").split()]
        assert terms.strip().startswith(str(card.terms)), card.name


def test_releases_of_nih_images_are_one_source_family() -> None:
    families = {task.dataset: registry.dataset(task.dataset).family for task in CORE}
    nih = {"rsna", "siim", "chestx-det", "nih-cxr"}
    assert {name for name, family in families.items() if family == "nih"} == nih
    assert {families[name] for name in families.keys() - nih} == {"object-cxr", "tbx11k"}
    for card in registry.datasets().values():
        shares = {name for name, what in (card.shares_with or {}).items() if what is Contamination.IMAGES}
        assert card.family == "nih" or "nih-cxr" not in shares or card.name == "covidx"  # a mixture of several sources


def test_one_nih_patient_has_one_name_wherever_a_release_says_who_it_is() -> None:
    """Names are those of NIH's own files: the part before the underscore, also in RSNA's mapping (tests/readers/test_rsna.py)."""
    named = {name for name, card in registry.datasets().items() if card.patients_of == "nih"}
    assert named == {"rsna", "rsna-plain", "rsna-labels", "nih-cxr", "nih-labels", "nih-lt"}
    assert registry.dataset("ms-cxr").patients_of == "mimic-cxr"


def test_tasks_of_the_suite_keep_patients_apart_where_the_release_knows_them() -> None:
    for task in (*CORE, *EXTENDED):
        splits = registry.dataset(task.dataset).splits
        assert (
            task.split == "patient-disjoint" or "patient-disjoint" not in splits or task.dataset == "covid-rural"
        )  # disjoint as published


def test_no_task_of_the_suite_brings_a_grid_of_its_own_or_less_than_all_validation_images() -> None:
    for task in (*CORE, *(task for task in EXTENDED if task.words is None)):
        assert task.recipe.grid == ()
        assert task.recipe.validation_subset == 1.0
        assert len(registry.protocol("lobe").grid_of(task.head, task.encoder)) in (5, 9)


def test_the_suites_reference_is_a_backbone_card_and_its_docs_say_of_every_task_why_it_is_there() -> None:
    assert registry.suite("lobe-v1").reference in registry.backbones()
    page = (Path(__file__).parents[1] / "docs" / "protocols" / "lobe.md").read_text(encoding="utf-8")
    assert [task.id for task in (*CORE, *EXTENDED) if f"`{task.id}`" not in page] == []


def test_every_published_number_a_task_names_is_in_that_table() -> None:
    for task in registry.tasks().values():
        if task.published is None:
            continue
        paper, column = task.published
        with (registry.content("results") / "published" / f"{paper}.csv").open(encoding="utf-8", newline="") as handle:
            assert column in {row["task_id"] for row in csv.DictReader(handle)}


# ----------------------------------------------------------------------------------------------------------------- errors


def test_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'rsna-yolo-frozen-10'.*Did you mean rsna-yolov3-frozen-10"):
        registry.task("rsna-yolo-frozen-10")


def test_unknown_name_far_from_all_says_where_to_look() -> None:
    with pytest.raises(UnknownName) as caught:
        registry.suite("zzzzzz")
    assert "Did you mean" not in str(caught.value)
    assert "lobe list suites" in str(caught.value)


def test_unknown_plugin_suggests_the_nearest_module() -> None:
    with pytest.raises(UnknownName, match="Did you mean yolov3"):
        registry.plugin("heads", "yolov33")


def test_a_module_that_is_not_there_defines_nothing() -> None:
    assert registry.defines("heads", "linear", "build")
    assert not registry.defines("heads", "linear", "built")
    assert not registry.defines("heads", "no_such_head", "build")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("patience: 2", "patiance: 2", ["recipe.patience", "recipe.patiance"]),
        ("encoder: frozen", "encoder: thawed", ["encoder"]),
        ("fraction: 1.0", "fraction: all", ["fraction"]),
        ("    dataset: rsna\n", "", ["dataset"]),
    ],
)
def test_mistake_in_a_card_is_named_with_file_card_and_key(own: Path, old: str, new: str, named: list[str]) -> None:
    assert old in TASK
    (own / "tasks" / "mine.yaml").write_text(TASK.replace(old, new), encoding="utf-8")
    registry.include(own)
    with pytest.raises(CardError) as caught:
        registry.tasks()
    text = str(caught.value)
    assert "mine.yaml" in text
    assert "my-linear-frozen-100" in text
    assert any(f"'{key}'" in text for key in named)


def test_cards_that_are_no_list_are_named(own: Path) -> None:
    (own / "tasks" / "mine.yaml").write_text(TASK.replace("  - id", "    id"), encoding="utf-8")
    registry.include(own)
    with pytest.raises(CardError, match=r"mine\.yaml: `tasks` is a list of cards, one `- ` each, and here it is a dict"):
        registry.tasks()


def test_duplicate_id_is_named_with_both_files(own: Path) -> None:
    (own / "tasks" / "mine.yaml").write_text(TASK.replace("my-linear-frozen-100", "rsna-linear-frozen-100"), encoding="utf-8")
    registry.include(own)
    with pytest.raises(CardError, match=r"mine\.yaml.*rsna-linear-frozen-100.*lovt-18\.yaml"):
        registry.tasks()


SUITE = """
suites:
  - { name: mine, title: Mine, description: Mine., suites: [PARTS], tasks: [OWN] }
"""


@pytest.mark.parametrize(
    ("parts", "own_tasks", "said"),
    [
        ("lovt-81", "", "made of the suite 'lovt-81', and there is no such suite"),
        ("full", "", "made of the suite 'full', and that is made of suites itself"),
        ("mine", "", "made of the suite 'mine', and that is made of suites itself"),
        ("", "", "Suite mine has no task"),
    ],
)
def test_a_suite_that_adds_up_to_nothing_is_named(own: Path, parts: str, own_tasks: str, said: str) -> None:
    (own / "tasks" / "mine.yaml").write_text(SUITE.replace("PARTS", parts).replace("OWN", own_tasks), encoding="utf-8")
    registry.include(own)
    with pytest.raises(CardError, match=said):
        registry.suites()


def test_a_suite_of_suites_has_its_own_tasks_first_and_each_once(own: Path) -> None:
    text = TASK + SUITE.replace("PARTS", "demo, transfer, demo").replace("OWN", "my-linear-frozen-100")
    (own / "tasks" / "mine.yaml").write_text(text, encoding="utf-8")
    registry.include(own)
    expected = ("my-linear-frozen-100", *registry.suite("demo").tasks, *registry.suite("transfer").tasks)
    assert registry.suite("mine").tasks == expected


@pytest.mark.parametrize("text", ["tasks: [", "- a\n- b\n", "just words"])
def test_file_that_is_no_card_is_named(own: Path, text: str) -> None:
    (own / "tasks" / "mine.yaml").write_text(text, encoding="utf-8")
    registry.include(own)
    with pytest.raises(CardError, match=r"mine\.yaml"):
        registry.tasks()


# ---------------------------------------------------------------------------------------------------------- own content


def test_included_cards_are_found_and_marked_custom(own: Path) -> None:
    registry.include(own)
    assert registry.task("my-linear-frozen-100").recipe.batch_size == 8
    assert registry.is_custom("my-linear-frozen-100", "tasks")
    assert not registry.is_custom("rsna-linear-frozen-100", "tasks")
    assert not registry.is_custom("my-linear-frozen-100", "suites")
    assert registry.custom_cards() == {("tasks", "my-linear-frozen-100")}
    assert registry.file_of("my-linear-frozen-100", "tasks") == own / "tasks" / "mine.yaml"


def test_no_shipped_card_is_custom_and_each_has_its_file() -> None:
    assert registry.custom_cards() == frozenset()
    for section, cards in (
        ("tasks", registry.tasks()),
        ("suites", registry.suites()),
        ("datasets", registry.datasets()),
        ("papers", registry.papers()),
    ):
        for name in cards:
            assert registry.file_of(name, section).is_file(), name
            assert not registry.is_custom(name, section)


def test_cells_of_an_own_grid_are_custom(own: Path) -> None:
    text = """
grids:
  - { name: mine, title: M, description: M., parents: [lovt-18], default_protocol: corrected, fractions: [1.0], heads: { siim: [unet] } }
"""
    (own / "tasks" / "grid.yaml").write_text(text, encoding="utf-8")
    registry.include(own)
    cells = registry.suite("mine").tasks
    assert registry.custom_cards() >= {("suites", "mine"), *(("tasks", cell) for cell in cells)}
    assert registry.file_of(cells[0], "tasks") == own / "tasks" / "grid.yaml"


def test_including_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no such folder"):
        registry.include(tmp_path / "nowhere")
