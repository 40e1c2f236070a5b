"""The contract behind resume: a job's key is a function of every value that can change a digit, and of nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from benchmark.cards import (
    IMAGENET,
    BackboneRef,
    Card,
    DatasetRef,
    EncoderMode,
    Experiment,
    Job,
    Labels,
    Later,
    Normalisation,
    Protocol,
    Recipe,
    Role,
    SplitCounts,
    SplitRule,
    Switches,
    Words,
    canonical_json,
    digest_of,
)

# Every optional value is set, so that a walk over the fields meets all of them.
FULL = Experiment(
    task_version=1,
    backbone=BackboneRef(
        family="resnet", model="resnet50", layout="torchvision", digest="a" * 64, init_seed=7, minimum_loaded=0.9, normalisation=IMAGENET
    ),
    dataset=DatasetRef(
        name="covid-rural",
        digest="b" * 64,
        split="lovt",
        split_rule=SplitRule(
            rule="by-patient",
            seed=42,
            validation_share=0.2,
            test_share=0.25,
            patients={"test": ("p1", "p2"), "validation": ("p3",)},
            expected={
                "train": SplitCounts(n_images=4, n_positive=2, n_boxes=3, n_patients=4, sha256_sorted="c" * 64, sha256_ordered="d" * 64)
            },
        ),
        classes=("opacity",),
        target="masks",
        intensity="equalised",
        statistics=Normalisation(mean=(0.5,), std=(0.25,)),
        frame_size=224,
    ),
    head="unet",
    encoder=EncoderMode.FINETUNE,
    fraction=1.0,
    recipe=Recipe(
        batch_size=8,
        learning_rate=1e-4,
        grid=(1e-4, 3e-4),
        max_epochs=100,
        max_steps=500,
        patience=20,
        min_delta=1e-5,
        warmup_steps=20,
        warmup_learning_rate=1e-3,
        plateau_factor=0.5,
        plateau_patience=3,
        weight_decay=1e-6,
        drop_last=True,
        validation_subset=1.0,
    ),
    select="opacity_dice",
    report="opacity_dice",
    switches=Switches(),
    role=Role.SELECTION,
    learning_rate=3e-4,
    head_seed=12345,
    order_seed=12345,
    precision="float32",
    device_type="cpu",
    threads=1,
    limit=64,
    profile="full",
)

# The same job as a person would write it: only what has no default.
SPARSE = Experiment(
    task_version=1,
    backbone=BackboneRef(family="resnet", model="resnet18", digest=None),
    dataset=DatasetRef(
        name="rsna",
        digest="e" * 64,
        split="lovt",
        split_rule=SplitRule(rule="shuffled"),
        classes=("opacity",),
        target="boxes",
        intensity="as-stored",
        statistics=Normalisation(mean=(0.5,), std=(0.25,)),
    ),
    head="yolov3",
    encoder=EncoderMode.FROZEN,
    fraction=0.1,
    recipe=Recipe(batch_size=64, learning_rate=1e-3, max_epochs=100, patience=10),
    select="mAP",
    report="mAP",
    switches=Switches(),
    role=Role.FINAL,
    learning_rate=1e-3,
    head_seed=12345,
    order_seed=12345,
)

LABELS = Labels(
    task="covid-rural-unet-finetune-100",
    task_title="COVID Rural · U-Net · fine-tuned · 100 %",
    suite="lovt-18",
    protocol="published",
    backbone="resnet50",
    run=0,
    fraction_text="100 %",
    encoder_text="fine-tuned",
    metric_title="Dice",
)

# Golden keys. When one changes, every stored record of every user is recomputed: only on purpose, and with a new task version.
GOLDEN = [(FULL, "a53ac776a22e96ea9c3e5ae19215261f"), (SPARSE, "618292da2ccec64b1180116e44f9a5c7")]

# For every leaf of an experiment, another valid value.
OTHER: dict[str, Any] = {
    "task_version": 2,
    "backbone.family": "timm",
    "backbone.model": "resnet34",
    "backbone.layout": "bare",
    "backbone.digest": None,
    "backbone.init_seed": None,
    "backbone.minimum_loaded": 1.0,
    "backbone.container": "teacher",
    "backbone.tokenizer": "0" * 64,
    "backbone.text_code": 2,
    "backbone.normalisation.mean": (0.5, 0.5, 0.5),
    "backbone.normalisation.std": (0.5, 0.5, 0.5),
    "dataset.name": "rsna",
    "dataset.digest": "0" * 64,
    "dataset.split": "patient-disjoint",
    "dataset.split_rule.rule": "by-image",
    "dataset.split_rule.seed": 43,
    "dataset.split_rule.validation_share": 0.3,
    "dataset.split_rule.test_share": None,
    "dataset.split_rule.patients": {"test": ("p1", "p2"), "validation": ("p4",)},
    "dataset.split_rule.expected": {},
    "dataset.classes": ("opacity", "effusion"),
    "dataset.target": "boxes",
    "dataset.intensity": "as-stored",
    "dataset.statistics.mean": (0.51,),
    "dataset.statistics.std": (0.26,),
    "dataset.frame_size": 448,
    "dataset.normalised_by": "backbone",
    "dataset.parts": ("rsna", "vindr-cxr"),
    "dataset.partial": "positives only",
    "head": "linear",
    "encoder": "frozen",
    "fraction": 0.1,
    "recipe.optimiser": "adamw",
    "recipe.betas": (0.5, 0.999),
    "recipe.augmentation": "scale-rotate",
    "recipe.batch_size": 16,
    "recipe.learning_rate": math.nextafter(1e-4, 1.0),  # the last bit counts
    "recipe.grid": (3e-4, 1e-4),
    "recipe.max_epochs": 101,
    "recipe.max_steps": None,
    "recipe.patience": 21,
    "recipe.min_delta": 0.0,
    "recipe.warmup_steps": 0,
    "recipe.warmup_learning_rate": 1e-2,
    "recipe.plateau_factor": 0.1,
    "recipe.plateau_patience": 4,
    "recipe.weight_decay": 0.0,
    "recipe.drop_last": False,
    "recipe.validation_subset": 0.1,
    "select": "avg_dice",
    "report": "avg_dice",
    "switches.data_order": "per-run",
    "switches.plateau_after_warmup": "kept",
    "switches.batchnorm_at_unfreezing": "train",
    "switches.background_at_positives": "cleared",
    "switches.object_cxr_shapes": "true",
    "switches.loss_at_extremes": "from-probabilities",
    "switches.label_draw": "nested",
    "switches.validation_labels": "at-most-training",
    "switches.selection": "two-seeds",
    "switches.grid_edge": "extended",
    "switches.linear_grid": "7x7",
    "switches.scored_in": "original",
    "switches.dice_loss": "per-class",
    "role": "final",
    "learning_rate": None,
    "head_seed": 12346,
    "order_seed": 12346,
    "precision": "bfloat16",
    "device_type": "cuda",
    "threads": 2,
    "limit": None,
    "profile": "smoke",
    "words": {"similarity": "global"},
    "asked": {"sets": [{"positives": {"opacity": ["opacity"]}}]},
    "own_code": {"heads/mine": "d"},
}


def key(experiment: Experiment) -> str:
    return Job(experiment=experiment, labels=LABELS).key


def leaves(card: Card, above: str = "") -> dict[str, Any]:
    """Path -> value of every field, descending into cards only."""
    found: dict[str, Any] = {}
    for name in type(card).model_fields:
        value = getattr(card, name)
        if isinstance(value, Card):
            found.update(leaves(value, f"{above}{name}."))
        else:
            found[above + name] = value
    return found


def with_value(experiment: Experiment, path: str, value: Any) -> Experiment:
    """A newly validated experiment that differs in one leaf."""
    dumped = experiment.model_dump()
    inner = dumped
    *parents, last = path.split(".")
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return Experiment.model_validate(dumped)


def reversed_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_order(inner) for name, inner in reversed(value.items())}
    return value


@pytest.mark.parametrize("card", [FULL.switches, FULL.recipe, FULL.dataset, FULL.backbone, FULL], ids=lambda card: type(card).__name__)
def test_any_hashed_card_takes_a_later_field_and_keeps_the_keys_of_earlier_jobs(card) -> None:
    class Grown(type(card)):
        later: Later[str] = "as before"

    content = card.model_dump()
    assert Grown(**content).model_dump(mode="json") == card.model_dump(mode="json")
    assert Grown(**content, later="otherwise").model_dump(mode="json") == {**card.model_dump(mode="json"), "later": "otherwise"}


@pytest.mark.parametrize(("experiment", "golden"), GOLDEN, ids=["full", "sparse"])
def test_keys_are_those_of_every_earlier_release(experiment: Experiment, golden: str) -> None:
    assert key(experiment) == golden


def test_fields_that_came_later_are_written_only_when_they_say_something() -> None:
    recipe = FULL.recipe.model_dump(mode="json")
    assert "optimiser" not in recipe
    assert "betas" not in recipe
    assert "augmentation" not in recipe
    assert FULL.recipe.model_copy(update={"optimiser": "adamw"}).model_dump(mode="json")["optimiser"] == "adamw"
    assert Experiment.model_validate_json(FULL.model_dump_json()) == FULL


def test_every_field_of_an_experiment_is_walked_below() -> None:
    assert set(OTHER) == set(leaves(FULL)), "a new field needs another value in OTHER, and changes the golden keys"


@pytest.mark.parametrize("path", OTHER)
def test_changing_any_hashed_field_changes_the_key(path: str) -> None:
    changed = with_value(FULL, path, OTHER[path])
    assert leaves(changed) != leaves(FULL)
    assert key(changed) != key(FULL)


def test_no_two_single_changes_share_a_key() -> None:
    keys = {key(with_value(FULL, path, value)) for path, value in OTHER.items()}
    assert len(keys) == len(OTHER)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("similarity", "local"),
        ("decision", "highest"),
        ("across_images", "standardised"),
        ("matches", "class"),
        ("own_report", "removed"),
        ("rerank", 100),
        ("prompts_read", "as-released"),
        ("found_in", "masks"),
        ("told_apart", "groups"),
    ],
)
def test_every_rule_of_a_task_without_training_is_hashed(field: str, value: object) -> None:
    asking = FULL.model_copy(update={"words": Words()})
    assert key(asking.model_copy(update={"words": Words(**{field: value})})) != key(asking) != key(FULL)
    rules = {"similarity", "decision", "across_images", "matches", "own_report", "rerank", "prompts_read", "found_in", "told_apart"}
    assert set(Words.model_fields) - {"prompts"} == rules


def test_tasks_that_train_say_nothing_of_words() -> None:
    assert not {"words", "asked"} & set(FULL.model_dump(mode="json"))


@pytest.mark.parametrize("without", ["backbone.normalisation", "dataset.split_rule.patients"])
def test_leaving_out_an_optional_block_changes_the_key(without: str) -> None:
    assert key(with_value(FULL, without, None)) != key(FULL)


def test_order_in_which_fields_are_written_does_not_matter() -> None:
    assert key(Experiment.model_validate(reversed_order(FULL.model_dump()))) == key(FULL)


@pytest.mark.parametrize("experiment", [FULL, SPARSE], ids=["full", "sparse"])
def test_writing_out_a_default_does_not_matter(experiment: Experiment) -> None:
    assert key(Experiment.model_validate(experiment.model_dump())) == key(experiment)
    assert key(Experiment.model_validate(experiment.model_dump(exclude_defaults=True))) == key(experiment)


def test_key_survives_the_way_through_a_file() -> None:
    job = Job(experiment=FULL, labels=LABELS, depends_on=("f" * 32,))
    again = Job.model_validate_json(job.model_dump_json())
    assert again == job
    assert again.key == job.key


def test_whole_numbers_and_floats_of_equal_value_are_the_same_recipe() -> None:
    assert key(with_value(FULL, "fraction", 1)) == key(FULL)


@pytest.mark.parametrize("field", list(Labels.model_fields))
def test_names_people_see_are_never_hashed(field: str) -> None:
    value = 3 if field == "run" else "renamed"
    renamed = LABELS.model_copy(update={field: value})
    assert renamed != LABELS
    assert Job(experiment=FULL, labels=renamed).key == key(FULL)


def test_what_a_job_waits_for_is_not_hashed() -> None:
    assert Job(experiment=FULL, labels=LABELS, depends_on=("f" * 32,)).key == key(FULL)


def test_key_is_the_head_of_the_digest_of_the_experiment() -> None:
    assert key(FULL) == digest_of(FULL.model_dump(mode="json"))[:32]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1, 2]}, '{"a":[1,2],"b":1}'),
        ({"rate": 3e-5}, '{"rate":3e-05}'),
        ({"rate": 0.1 + 0.2}, '{"rate":0.30000000000000004}'),
        ({"title": "U-Net · 1 %"}, '{"title":"U-Net · 1 %"}'),
        (None, "null"),
    ],
)
def test_canonical_json_has_one_spelling(value: Any, text: str) -> None:
    assert canonical_json(value) == text


def test_canonical_json_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"rate": float("nan")})


def test_digest_is_sha256_of_the_canonical_json() -> None:
    # printf '{"a":1}' | sha256sum
    assert digest_of({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_misspelt_key_is_an_error_not_ignored() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Recipe.model_validate({"batch_size": 8, "learning_rate": 1e-3, "max_epochs": 5, "patience": 2, "patiance": 3})


def test_cards_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.recipe.patience = 5


def test_switches_default_to_the_released_code() -> None:
    protocol = Protocol(name="p", title="p", switches=Switches(), statistics="dataset", equalise="as-released")
    assert protocol.switches.model_dump() == {
        "data_order": "one-seed",
        "plateau_after_warmup": "undone",
        "batchnorm_at_unfreezing": "next-epoch",
        "background_at_positives": "kept",
        "object_cxr_shapes": "released",
    }
    # What came later is what earlier jobs did, which need not be the released code: `published` names the released value.
    assert protocol.switches.loss_at_extremes == "from-logits"


def test_a_copy_computes_its_own_text_and_key() -> None:
    job = Job(experiment=FULL, labels=LABELS)
    before = job.key, FULL.recipe.canonical
    recipe = FULL.recipe.model_copy(update={"batch_size": FULL.recipe.batch_size + 1})
    changed = job.model_copy(update={"experiment": FULL.model_copy(update={"recipe": recipe})})
    assert recipe.canonical != before[1]
    assert changed.key != before[0]
    assert job.key == before[0]


@pytest.mark.parametrize("path", sorted(OTHER))
def test_the_hashed_text_is_the_canonical_json_of_the_experiment(path: str) -> None:
    experiment = with_value(FULL, path, OTHER[path])
    assert experiment.canonical == canonical_json(experiment.model_dump(mode="json"))


@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.1), (0.2, 0.1), (0.0, 0.1)])
def test_the_rates_of_a_protocol_rise_from_above_zero(rates: tuple[float, ...]):
    given = {"name": "p", "title": "p", "switches": Switches(), "statistics": "dataset", "equalise": "as-released"}
    with pytest.raises(ValidationError, match="the rates of linear are not two or more that rise from above 0"):
        Protocol(**given, grids={"frozen": {"linear": rates}})


@pytest.mark.parametrize(
    ("mean", "std", "sentence"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "statistics of 0 to 255 are to be divided by 255"),
        ((0.485,), (-0.25,), "std above 0"),
        ((0.485,), (0.0,), "std above 0"),
        ((0.485,), (math.inf,), "std above 0"),
        ((math.nan,), (0.25,), "mean and std are of images from 0 to 1"),
        ((-1.1,), (0.25,), "mean and std are of images from 0 to 1"),
        ((0.4, 0.5, 0.6), (0.2, 0.2), "one number for each channel, or one for all"),
        ((), (), "one number for each channel, or one for all"),
    ],
)
def test_statistics_that_no_image_from_0_to_1_has_are_refused(mean: tuple[float, ...], std: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Normalisation(mean=mean, std=std)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), (1.0,)), ((-1.0, 0.5, 2.0), (1 / 255,) * 3), ((0.5,), (0.2, 0.25, 0.3)), ((0.1,), (2.0,)), ((0.5,), (1e-7,))]
)
def test_statistics_that_authors_state_are_taken(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert Normalisation(mean=mean, std=std).std == std
