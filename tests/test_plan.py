"""What plan promises: 136 runs for LoVT-18, keys that change with the experiment alone, seeds and grids as the protocol says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from benchmark import kinds, registry
from benchmark.cards import READ_BY_TRAINING, BackboneRef, Contamination, DatasetRef, Normalisation, Role, SplitRule, Switches
from benchmark.errors import UsageError
from benchmark.plan import About, NamedBackbone, Settings, plan
from benchmark.rate_search import BASE_SEED, n_runs, select_learning_rate


def dataset_ref(name: str) -> DatasetRef:
    return DatasetRef(
        name=name,
        digest=f"digest of {name}",
        split="lovt",
        split_rule=SplitRule(rule="permutation", seed=123),
        classes=("opacity",),
        target="masks",
        intensity="as-stored",
        statistics=Normalisation(mean=(0.5,), std=(0.25,)),
    )


def named(label: str = "resnet50 (pretrained)", digest: str | None = "abc") -> NamedBackbone:
    return NamedBackbone(label, BackboneRef(family="torchvision", model="resnet50", digest=digest))


DATASETS = {name: dataset_ref(name) for name in ("rsna", "covid-rural", "siim", "object-cxr", "nih-cxr")}


def lovt_jobs(settings: Settings | None = None, protocol: str = "published", backbone: NamedBackbone | None = None):
    cards = [registry.task(name) for name in registry.suite("lovt-18").tasks]
    return plan(cards, [backbone or named()], DATASETS, registry.protocol(protocol), settings or Settings())


def test_lovt_18_is_136_training_runs_46_for_selection_and_90_final():
    jobs = lovt_jobs()
    roles = [job.experiment.role for job in jobs]
    assert (roles.count(Role.SELECTION), roles.count(Role.FINAL), len({job.key for job in jobs})) == (46, 90, 136)
    assert sum(n_runs(registry.protocol("published"), registry.task(name)) for name in registry.suite("lovt-18").tasks) == 46


def test_final_jobs_wait_for_every_entry_of_their_grid():
    finals = [job for job in lovt_jobs() if job.experiment.role is Role.FINAL]
    for job in finals:
        assert len(job.depends_on) == len(job.experiment.recipe.grid)
        assert (job.experiment.learning_rate is None) == (len(job.experiment.recipe.grid) > 1)
    never_tuned = [job for job in finals if job.labels.task == "rsna-yolov3-frozen-10"]
    assert {job.experiment.learning_rate for job in never_tuned} == {1e-3}


def test_jobs_carry_what_the_card_says_and_their_keys_do_not():
    bare, known = named(), named()
    known = NamedBackbone(known.label, known.ref, {"rsna": Contamination.LABELS})
    jobs = lovt_jobs(backbone=known)
    assert {job.labels.contamination for job in jobs if job.experiment.dataset.name == "rsna"} == {Contamination.LABELS}
    assert {job.labels.contamination for job in jobs if job.experiment.dataset.name != "rsna"} == {Contamination.UNKNOWN}
    assert {job.labels.contamination for job in lovt_jobs(backbone=named("r", None))} == {Contamination.NONE}
    assert [job.key for job in jobs] == [job.key for job in lovt_jobs(backbone=bare)]


def test_code_that_draws_weights_is_not_taken_for_one_that_saw_nothing():
    """Its author's file may draw one tensor and load the others; LOBE's own families draw all."""
    ref = BackboneRef(family="python_file", model="build:1", digest=None)
    jobs = lovt_jobs(backbone=NamedBackbone("mine (random)", ref, {"rsna": Contamination.IMAGES, "siim": Contamination.NONE}))
    said = {(job.experiment.dataset.name, job.labels.contamination) for job in jobs}
    assert {("rsna", Contamination.IMAGES), ("siim", Contamination.NONE), ("nih-cxr", Contamination.UNKNOWN)} <= said
    assert len({name for name, _ in said}) == len(said)


def test_statistics_that_building_does_not_tell_are_in_the_jobs_that_use_them_and_in_no_other():
    own = Normalisation(mean=(0.4,), std=(0.2,))
    card, rules = registry.task("rsna-linear-frozen-10-lobe-v1"), registry.protocol("lobe")
    ref = dataset_ref("rsna").model_copy(update={"normalised_by": "backbone"})

    def jobs(backbone: NamedBackbone):
        return plan([card], [backbone], {"rsna": ref}, rules, Settings())

    for digest in ("abc", None):
        usual = named(digest=digest)
        mine = replace(usual, statistics=own)
        assert [job.key for job in lovt_jobs(backbone=mine)] == [job.key for job in lovt_jobs(backbone=usual)]
        refs = [job.experiment.backbone for job in jobs(mine)]
        assert refs == [job.experiment.backbone.model_copy(update={"normalisation": own}) for job in jobs(usual)]
        assert not {job.key for job in jobs(mine)} & {job.key for job in jobs(usual)}


def test_labels_say_what_came_from_own_cards_and_keys_do_not():
    card = registry.task("rsna-linear-frozen-100")
    rules = registry.protocol("published")

    def jobs(about: About | None = None, **backbone):
        return plan([card], [replace(named(), **backbone)], {"rsna": dataset_ref("rsna")}, rules, Settings(), about=about)

    mine = About(frozenset({("tasks", card.id), ("datasets", "rsna"), ("protocols", "published"), ("suites", "rsna")}), {"rsna": "boxes"})
    plain, custom, of_card = jobs(), jobs(mine), jobs(custom=True)
    assert {(job.labels.custom, job.labels.mask_source) for job in plain} == {((), None)}
    assert {(job.labels.custom, job.labels.mask_source) for job in custom} == {(("task", "dataset", "protocol"), "boxes")}
    assert {job.labels.custom for job in of_card} == {("backbone",)}
    assert [job.key for job in plain] == [job.key for job in custom] == [job.key for job in of_card]
    assert "custom" not in plain[0].model_dump(mode="json")["labels"]


def test_an_own_prompt_set_makes_the_task_custom():
    task = registry.task("rsna-labels-zero-shot-lobe")
    ref = dataset_ref("rsna-labels").model_copy(update={"target": "labels"})
    about = About(frozenset({("prompts", task.words.prompts)}))
    found = plan([task], [named()], {"rsna-labels": ref}, registry.protocol("corrected"), Settings(), registry.prompts(), about)
    assert {job.labels.custom for job in found} == {("prompts",)}


def test_a_frame_of_another_side_is_another_job():
    card = registry.task("rsna-linear-frozen-100")
    usual, small = (
        plan([one], [named()], {"rsna": dataset_ref("rsna")}, registry.protocol("published"), Settings())
        for one in (card, card.model_copy(update={"frame_size": 160}))
    )
    assert {job.experiment.dataset.frame_size for job in usual} == {224}
    assert {job.experiment.dataset.frame_size for job in small} == {160}
    assert not {job.key for job in usual} & {job.key for job in small}


def test_published_runs_share_the_data_order_and_differ_in_the_head():
    finals = [job.experiment for job in lovt_jobs() if job.labels.task == "rsna-linear-frozen-100" and job.experiment.role is Role.FINAL]
    assert {e.order_seed for e in finals} == {BASE_SEED}
    assert len({e.head_seed for e in finals}) == 5


def test_corrected_runs_differ_in_data_order_too():
    jobs = lovt_jobs(protocol="corrected")
    finals = [job.experiment for job in jobs if job.labels.task == "rsna-linear-frozen-100" and job.experiment.role is Role.FINAL]
    assert len({e.order_seed for e in finals}) == 5


def test_a_random_backbone_is_drawn_anew_for_every_run_and_fixed_weights_are_shared():
    random = [
        j.experiment.backbone.init_seed
        for j in lovt_jobs(Settings(runs=3), backbone=named("r", None))
        if j.labels.task == "rsna-yolov3-frozen-10"
    ]
    fixed = [j.experiment.backbone.init_seed for j in lovt_jobs(Settings(runs=3)) if j.labels.task == "rsna-yolov3-frozen-10"]
    assert len(set(random)) == 3
    assert set(fixed) == {None}


def test_an_added_learning_rate_keeps_the_keys_of_the_selection_runs_there_are():
    card = registry.task("rsna-linear-frozen-100")
    wider = card.model_copy(update={"recipe": card.recipe.model_copy(update={"grid": (*card.recipe.grid, 1.0)})})
    keys = [
        {j.key for j in plan([c], [named()], DATASETS, registry.protocol("published"), Settings()) if j.experiment.role is Role.SELECTION}
        for c in (card, wider)
    ]
    assert keys[0] < keys[1]


def test_smoke_takes_the_first_grid_value_and_a_step_budget():
    jobs = lovt_jobs(Settings(profile="smoke", limit=16, runs=1))
    assert len(jobs) == 18
    for job in jobs:
        card = registry.task(job.labels.task)
        assert job.experiment.recipe.max_steps == registry.head(job.experiment.head).smoke_steps
        assert job.experiment.learning_rate == (card.recipe.grid[0] if card.recipe.grid else card.recipe.learning_rate)
        assert job.limited


@pytest.mark.parametrize("head", sorted({task.head for task in registry.tasks().values() if task.words is None}))
def test_a_smoke_run_of_any_head_ends_by_its_steps_and_before_anything_else_ends_it(head: str):
    task = next(task for task in registry.tasks().values() if task.head == head and task.recipe.max_steps is None)
    settings = Settings(profile="smoke", runs=1)
    (job,) = plan([task], [named()], {task.dataset: dataset_ref(task.dataset)}, registry.protocol(task.protocols[0]), settings)
    recipe = job.experiment.recipe
    assert 1 <= recipe.max_steps <= 100  # a few seconds to minutes on a laptop
    assert min(recipe.max_epochs, recipe.patience) >= recipe.max_steps


def test_half_of_a_smoke_run_at_least_is_not_warm_up():
    # LoVT warms up for 100 batches, more than the whole budget: without --limit no encoder would ever train.
    jobs = lovt_jobs(Settings(profile="smoke", runs=1))
    warm = {j.experiment.recipe.warmup_steps for j in jobs if j.experiment.encoder.value == "finetune"}
    assert warm
    assert all(j.experiment.recipe.warmup_steps <= j.experiment.recipe.max_steps // 2 for j in jobs)
    assert {j.experiment.recipe.warmup_steps for j in lovt_jobs()} == {0, 20, 100}


def test_the_earlier_entry_of_the_grid_wins_a_tie():
    assert select_learning_rate((3e-2, 1e-2, 3e-3), {3e-3: 0.5, 1e-2: 0.5, 3e-2: 0.4}) == 1e-2


def test_a_protocol_is_an_entry_of_its_own_and_no_task_has_to_name_it(tmp_path, monkeypatch):
    before = {task.id: task.protocols for task in registry.tasks().values()}
    mine = registry.protocol("corrected").model_dump(mode="json") | {"name": "mine", "title": "Mine", "alongside": "corrected"}
    mine["switches"]["plateau_after_warmup"] = "undone"
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(yaml.safe_dump({"protocols": [mine]}))
    monkeypatch.setattr(registry, "_included", [*registry._included, tmp_path])
    registry.forget()
    try:
        offered = {task.id: task.protocols for task in registry.tasks().values()}
        assert offered == {name: (*found, "mine") if "corrected" in found else found for name, found in before.items()}
        task = registry.task("covid-rural-unet-finetune-100")
        jobs = plan([task], [named()], DATASETS, registry.protocol("mine"), Settings(runs=1))
        assert {(job.experiment.switches.plateau_after_warmup, job.labels.protocol) for job in jobs} == {("undone", "mine")}
    finally:
        monkeypatch.undo()
        registry.forget()


def test_a_protocol_a_task_does_not_offer_is_named():
    card = registry.task("rsna-linear-frozen-100").model_copy(update={"protocols": ("published",)})
    with pytest.raises(UsageError, match="corrected"):
        plan([card], [named()], DATASETS, registry.protocol("corrected"), Settings())


def test_planning_is_linear_in_jobs():
    """Not a timing test: twice the backbones give twice the jobs, all with keys of their own."""
    few, many = ([named(f"b{i}", f"digest {i}") for i in range(n)] for n in (2, 4))
    cards = [registry.task(name) for name in registry.suite("lovt-18").tasks]
    counts = [len({j.key for j in plan(cards, b, DATASETS, registry.protocol("published"), Settings())}) for b in (few, many)]
    assert counts == [272, 544]


def test_a_switch_that_came_later_is_in_the_keys_of_heads_that_read_it_alone() -> None:
    """Published jobs of other heads keep the keys they had before there was the switch."""
    published = registry.protocol("published")
    assert published.switches.loss_at_extremes == "from-probabilities"
    earlier = published.model_copy(update={"switches": published.switches.model_copy(update={"loss_at_extremes": "from-logits"})})
    cards = [registry.task(name) for name in registry.suite("lovt-18").tasks]
    now, before = (plan(cards, [named()], DATASETS, protocol, Settings()) for protocol in (published, earlier))
    changed = {job.experiment.head for job, other in zip(now, before, strict=True) if job.key != other.key}
    kept = {job.experiment.head for job, other in zip(now, before, strict=True) if job.key == other.key}
    assert (changed, kept) == ({"yolov3"}, {"linear", "unet"})
    assert all(job.experiment.switches.loss_at_extremes == "from-probabilities" for job in now if job.experiment.head == "yolov3")


# ------------------------------------------------------------------------------------------------- the leaderboard's protocol


def lobe_jobs(task: str, settings: Settings | None = None, backbone: NamedBackbone | None = None, **changes):
    card = registry.task(task).model_copy(update={"protocols": ("lobe",), **changes})
    return plan([card], [backbone or named()], DATASETS, registry.protocol("lobe"), settings or Settings())


@pytest.mark.parametrize(("task", "n_rates"), [("rsna-linear-frozen-10", 9), ("rsna-yolov3-frozen-10", 5), ("siim-unet-finetune-100", 5)])
def test_every_rate_of_the_protocols_grid_is_tried_twice_and_its_edge_is_waited_for(task: str, n_rates: int) -> None:
    jobs = lobe_jobs(task)
    tries = [job for job in jobs if job.experiment.role is Role.SELECTION and not job.experiment.extends_grid]
    beyond = [job for job in jobs if job.experiment.extends_grid]
    finals = [job for job in jobs if job.experiment.role is Role.FINAL]
    assert (len(tries), len(beyond), len(finals), len({job.key for job in jobs})) == (2 * n_rates, 2, 5, 2 * n_rates + 7)
    grid = registry.protocol("lobe").grid_of(jobs[0].experiment.head, jobs[0].experiment.encoder)
    assert [job.experiment.learning_rate for job in tries] == [rate for rate in grid for _ in range(2)]
    assert all(set(job.depends_on) == {one.key for one in tries} for job in beyond)
    assert all(set(job.depends_on) == {one.key for one in (*tries, *beyond)} for job in finals)
    assert {job.labels.run for job in (*tries, *beyond)} == {0, 1}
    assert n_runs(registry.protocol("lobe"), registry.task(task)) == len(tries) + len(beyond)


def test_no_reported_run_has_a_seed_that_chose_its_rate() -> None:
    jobs = [job.experiment for job in lobe_jobs("rsna-linear-frozen-1", backbone=named("r", None))]
    for seed_of in (lambda e: e.head_seed, lambda e: e.order_seed, lambda e: e.backbone.init_seed):
        chose, reported = ({seed_of(e) for e in jobs if e.role is role} for role in (Role.SELECTION, Role.FINAL))
        assert (len(chose), len(reported), chose & reported) == (2, 5, set())


def test_a_search_that_may_not_see_the_test_split_says_so_and_others_open_it_as_before() -> None:
    opens = {(e.role, e.opens_test) for e in (job.experiment for job in lobe_jobs("rsna-linear-frozen-10"))}
    assert opens == {(Role.SELECTION, False), (Role.FINAL, True)}
    assert all(job.experiment.opens_test for job in lovt_jobs(protocol="corrected"))


def test_switches_of_a_search_are_in_the_keys_of_jobs_that_search_alone() -> None:
    searched = [job.experiment for job in lobe_jobs("rsna-linear-frozen-10")]
    assert {e.switches.grid_edge for e in searched if e.role is Role.SELECTION and e.learning_rate is not None} == {"kept"}
    assert {e.switches.grid_edge for e in searched if e.learning_rate is None} == {"extended"}
    smoke = [job.experiment for job in lobe_jobs("rsna-linear-frozen-10", Settings(profile="smoke"))]
    assert {(e.role, e.switches.selection, e.switches.grid_edge) for e in smoke} == {(Role.FINAL, "one-seed", "kept")}
    assert {e.switches.label_draw for e in (*searched, *smoke)} == {"nested"}


def test_a_smoke_run_takes_the_rate_of_the_protocols_grid_that_is_nearest_to_the_cards() -> None:
    (job,) = lobe_jobs("rsna-linear-frozen-10", Settings(profile="smoke", runs=1))  # the card says 0.03
    assert job.experiment.learning_rate == 0.0316


def test_keys_follow_the_rules_and_not_the_protocols_name_or_version() -> None:
    lobe, card = registry.protocol("lobe"), registry.task("rsna-yolov3-frozen-10").model_copy(update={"protocols": ("lobe", "other")})
    other = lobe.model_copy(update={"name": "other", "title": "Other", "version": 7})
    keys = [[job.key for job in plan([card], [named()], DATASETS, rules, Settings())] for rules in (lobe, other)]
    assert keys[0] == keys[1]


def test_the_leaderboards_protocol_differs_from_corrected_in_a_closed_list_of_switches() -> None:
    """What else differs is the protocol's own: statistics, equalisation, grids, and geometry by `linear_grid`."""
    lobe, corrected = registry.protocol("lobe"), registry.protocol("corrected")
    differ = {name for name in Switches.model_fields if getattr(lobe.switches, name) != getattr(corrected.switches, name)}
    assert differ >= READ_BY_TRAINING
    assert differ - READ_BY_TRAINING == {"linear_grid", "scored_in", "dice_loss"}
    assert (lobe.statistics, lobe.equalise, corrected.grids) == ("backbone", "never", {})


def test_both_geometries_follow_the_same_rules_and_never_share_a_row() -> None:
    lobe, native = registry.protocol("lobe"), registry.protocol("lobe-native")
    same = {"name", "title", "geometry", "alongside", "switches"}
    assert lobe.model_dump(exclude=same) == native.model_dump(exclude=same)
    assert (lobe.geometry, native.geometry, native.alongside) == ("controlled", "native", "lobe")
    differ = {name for name in Switches.model_fields if getattr(lobe.switches, name) != getattr(native.switches, name)}
    assert differ <= {"linear_grid"}


def test_the_native_geometry_takes_the_frame_nearest_to_the_backbones_own_input_and_the_controlled_one_the_tasks() -> None:
    task = registry.task("object-cxr-linear-frozen-100-lobe-v1")
    backbones = [replace(named(f"at {side}", f"digest {side}"), input_size=side) for side in (480, 518, None)]
    found = {}
    for protocol in ("lobe", "lobe-native"):
        jobs = plan([task], backbones, DATASETS, registry.protocol(protocol), Settings(runs=1))
        found[protocol] = {job.labels.backbone: job.experiment.dataset.frame_size for job in jobs}
    assert found == {
        "lobe": {"at 480": 224, "at 518": 224, "at None": 224},
        "lobe-native": {"at 480": 480, "at 518": 512, "at None": 224},
    }


def test_every_later_switch_is_read_by_some_head_or_kind_and_none_reads_another() -> None:
    readers = [*registry.heads().values(), *kinds.every()]
    assert set(Switches.came_later()) == READ_BY_TRAINING | {name for one in readers for name in one.later_switches}


def test_a_switch_of_a_kind_is_in_the_keys_of_all_its_heads_and_of_no_other_kind() -> None:
    corrected = registry.protocol("corrected")
    other = corrected.model_copy(update={"switches": corrected.switches.model_copy(update={"scored_in": "original"})})
    tasks = ("rsna-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100", "rsna-labels-linear-frozen-1-gloria")
    cards = [registry.task(name) for name in tasks]
    refs = DATASETS | {"rsna-labels": dataset_ref("rsna-labels")}
    now, then = (plan(cards, [named()], refs, protocol, Settings()) for protocol in (corrected, other))
    changed = {job.experiment.head for job, before in zip(then, now, strict=True) if job.key != before.key}
    assert changed == {"linear", "unet", "yolov3"}
    assert any(job.key == before.key for job, before in zip(then, now, strict=True))


@pytest.mark.parametrize(
    ("task", "read"),
    [
        ("rsna-linear-frozen-10", {"dice_loss": "per-class", "scored_in": "original", "linear_grid": "7x7"}),
        ("covid-rural-unet-frozen-100", {"dice_loss": "per-class", "scored_in": "original"}),
        ("rsna-yolov3-frozen-10", {"scored_in": "original"}),
    ],
)
def test_rules_of_loss_and_scoring_reach_the_jobs_they_are_about_and_no_others(task: str, read: dict[str, str]) -> None:
    names = {"dice_loss", "scored_in", "linear_grid"}
    for job in lobe_jobs(task):
        assert job.experiment.switches.model_dump(mode="json", include=names) == read


@pytest.mark.parametrize(
    ("task", "tried", "beyond", "reported"),
    [
        (
            "rsna-linear-frozen-10-lobe-v1",
            "5100cfd7db9a872fda45a3ddf96bb4a2",
            "ecfc3baa5c74259cf52f036ede9fad1d",
            "255d5e5383a3ced81436b710c55bfd61",
        ),
        (
            "siim-unet-finetune-100-lobe-v1",
            "a3df2f01ea6de9ca58c949000d6be5c7",
            "b3c58c33f5095af76872d5b40f86c1a1",
            "b2466d24684ff9a51e0cb85d08561c01",
        ),
        (
            "object-cxr-yolov3-frozen-100-lobe-v1",
            "c665d049b8471d9573e8b9cc765aa899",
            "d039932342ed86260101df7034298c59",
            "0695e158db46e609f166ad40d6093e8a",
        ),
    ],
)
def test_keys_of_the_leaderboards_first_version_stay(task: str, tried: str, beyond: str, reported: str) -> None:
    jobs = plan([registry.task(task)], [named()], DATASETS, registry.protocol("lobe"), Settings())
    assert jobs[0].key == tried
    assert next(job.key for job in jobs if job.experiment.extends_grid) == beyond
    assert jobs[-1].key == reported
