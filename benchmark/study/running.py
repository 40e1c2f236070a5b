"""A study from its card to its results: costs, pretrainings, an evaluation of all backbones. The same call goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from benchmark import private, registry, resolve
from benchmark.api import Evaluation, evaluate
from benchmark.cards import PretrainingCard, StudyCard
from benchmark.errors import DataError, TrainingError
from benchmark.request import Request, Silent, Watcher
from benchmark.study import costs as costing
from benchmark.study.costs import Cost
from benchmark.study.made import lies_there
from benchmark.study.making import Making, Where, loaded_pairs, make, why
from benchmark.study.members import Member, members
from benchmark.study.reading import tasks_of

RESULTS = "results"  # the output folder of the evaluation


@dataclass(frozen=True)
class Asked:
    """How a study is run; nothing here changes what it compares, but threads and device are part of every key.

    Attributes:
        data: as `lobe run --data`.
        workers: pretrainings at a time.
        executor, tracking: of the evaluation.
    """

    data: Sequence[str]
    out: Path
    cache: Path | None = None
    workers: int = 1
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    executor: Literal["ray", "inline"] = "ray"
    tracking: bool = True


class Shown(Protocol):
    """Whoever wants to see a study happen."""

    def measuring(self, recipe: str, number: int, of: int) -> None: ...

    def measured(self, forecast_s: float, n_made: int, n_members: int) -> None: ...

    def pretrained(self, pairs: int, of: int) -> None: ...

    def ended(self, label: str, sentence: str, number: int, of: int, left_s: float | None) -> None: ...

    def evaluating(self) -> Watcher: ...


class Unseen:
    """The watcher of a test."""

    def measuring(self, recipe: str, number: int, of: int) -> None:
        return None

    def measured(self, forecast_s: float, n_made: int, n_members: int) -> None:
        return None

    def pretrained(self, pairs: int, of: int) -> None:
        return None

    def ended(self, label: str, sentence: str, number: int, of: int, left_s: float | None) -> None:
        return None

    def evaluating(self) -> Watcher:
        return Silent()


@dataclass
class Study:
    """What came of a study.

    Attributes:
        costs: by name of a method, of those that could be measured.
        equal: method -> pairs after which it has cost what the cheapest costs in all; of the same.
        left_out: seeds of the card for which the budget has no time.
        evaluations: of image encoders, then of those with their text side, where tasks ask in words.
        places: name of a backbone in tables -> member and pairs after which it was kept; the start is none of them.
        unmeasured: method -> why nobody knows what a pair costs it.
    """

    card: StudyCard
    members: list[Member]
    costs: dict[str, Cost]
    equal: dict[str, int]
    making: Making
    left_out: tuple[int, ...] = ()
    evaluations: list[Evaluation] = field(default_factory=list)
    places: dict[str, tuple[Member, int]] = field(default_factory=dict)
    seconds: float = 0.0
    unmeasured: dict[str, str] = field(default_factory=dict)


def planned(card: StudyCard, asked: Asked) -> tuple[list[Member], dict[str, Cost]]:
    """Members as far as costs are known from an earlier call; nothing is computed."""
    known = costing.known(asked.out)
    of = {name: known.get(_address(name, asked)) for name in card.recipes}
    costs = {name: cost for name, cost in of.items() if cost is not None}
    equal = _equal(card, costs)
    return members(fitting(card, costs, equal, asked.workers), equal), costs


def forecast_s(todo: Sequence[Member], costs: Mapping[str, Cost], workers: int) -> float | None:
    """Seconds that members take on this machine; one without a cost of its own takes what its method takes. None where none is known."""
    by_method = {registry.recipe(name).method: cost for name, cost in costs.items()}
    found = []
    for member in todo:
        cost = costs.get(member.name) or by_method.get(member.recipe.method)
        if cost is None:
            return None
        found.append(cost.seconds_until(member.keeps[-1], member.keeps[-1]))
    return max(sum(found) / workers, max(found, default=0.0))


def fitting(card: StudyCard, costs: Mapping[str, Cost], equal: dict[str, int], workers: int) -> StudyCard:
    """The study with as many seeds as fit into its minutes, one at least. What is made counts too: a call asks for the same seeds again."""
    for n in range(len(card.seeds), 1, -1):
        cut = card.model_copy(update={"seeds": card.seeds[:n]})
        expected = forecast_s(members(cut, equal), costs, workers)
        if card.budget.minutes is None or expected is None or expected <= 60 * card.budget.minutes:
            return cut
    return card.model_copy(update={"seeds": card.seeds[:1]})


def run(card: StudyCard, asked: Asked, shown: Shown | None = None) -> Study:
    """Measures, pretrains and evaluates what is not there yet.

    Raises:
        LobeError: nothing could start, or every pretraining failed. A single one that fails is in `Study.making`.
    """
    shown, began = shown or Unseen(), time.monotonic()
    private.root(asked.out)
    roots = resolve.data_roots(list(asked.data))
    named = {registry.recipe(name).pairs.dataset for name in card.recipes}
    of_datasets = {name: resolve.dataset_root(registry.dataset(name), roots) for name in named}
    _require_data(card, roots)
    costs, unmeasured = _costs(card, asked, of_datasets, shown)
    if not costs:
        raise TrainingError("\n".join(f"{name}: {sentence}" for name, sentence in unmeasured.items()))
    equal = _equal(card, costs, unmeasured)
    expected = _forecast_with(costs, unmeasured)
    whole, card = card, fitting(card, expected, equal, asked.workers)
    every = members(card, equal)
    todo = [one for one in every if not lies_there(one, asked.out)]
    shown.measured(forecast_s(todo, expected, asked.workers) or 0.0, len(every) - len(todo), len(every))
    where = Where(asked.out, of_datasets, resolve.cache_folder(asked.cache), asked.threads, asked.device, registry.included())
    making = _pretrained(every, where, asked.workers, shown)
    study = Study(card, every, costs, equal, making, left_out=whole.seeds[len(card.seeds) :], unmeasured=unmeasured)
    if not making.made:
        raise TrainingError("\n".join(f"{label}: {why}" for label, why in making.failed.items()))
    for one in requests(study, asked):
        study.evaluations.append(evaluate(one, shown.evaluating()))
    study.seconds = time.monotonic() - began
    return study


def _require_data(card: StudyCard, roots: dict[str | None, Path]) -> None:
    """What judges the backbones has to be there before hours of pretraining.

    Raises:
        DataError: the folder of a task's dataset is missing.
    """
    for name in dict.fromkeys(registry.task(task).dataset for task in tasks_of(card)):
        dataset = registry.dataset(name)
        root = resolve.dataset_root(dataset, roots)
        if not resolve.is_there(dataset, root):
            raise DataError(
                f"{name}: no folder {root}, and tasks of the study are judged on it. Put it there, or name it: --data {name}=PATH."
            )


def requests(study: Study, asked: Asked) -> Iterator[Request]:
    """Of image encoders and, where tasks ask in words, of those with their text side: each as `lobe run` asks for one."""
    tasks = tasks_of(study.card)
    in_words = [name for name in tasks if registry.task(name).words is not None]
    on_images = [name for name in tasks if name not in in_words]
    if on_images:
        yield _request(study.card, asked, [start_of(study), *_backbones(study, with_text=False)], on_images)
    if in_words:
        yield _request(study.card, asked, _backbones(study, with_text=True), in_words)


def _request(card: StudyCard, asked: Asked, backbones: Sequence[str], tasks: Sequence[str]) -> Request:
    judged = card.evaluation
    return Request(
        backbones=list(backbones),
        tasks=list(tasks),
        data=list(asked.data),
        out=asked.out / RESULTS,
        cache=asked.cache,
        executor=asked.executor,
        device=asked.device,
        protocol=judged.protocol or (None if judged.suite is None else registry.suites()[judged.suite].default_protocol),
        runs=judged.runs,
        limit=judged.limit,
        profile=judged.profile,
        threads=asked.threads,
        tracking=asked.tracking,
    )


def _costs(card: StudyCard, asked: Asked, roots: Mapping[str, Path], shown: Shown) -> tuple[dict[str, Cost], dict[str, str]]:
    """Of every method, measured once for an output folder; and why of some it could not be: that stops no other."""
    known, found, failed = costing.known(asked.out), dict[str, Cost](), dict[str, str]()
    cache = resolve.cache_folder(asked.cache)
    for number, name in enumerate(card.recipes):
        recipe = _of_study(card, name)
        address = _address(name, asked)
        if address not in known:
            shown.measuring(name, number, len(card.recipes))
            folder = private.folder(asked.out / "costs" / address)
            try:
                loaded = loaded_pairs(recipe, roots[recipe.pairs.dataset], card.seeds[0], cache)
                known[address] = costing.measured(recipe, loaded, folder, threads=asked.threads, device_type=asked.device)
            except Exception as error:
                failed[name] = why(error, recipe, roots)
                continue
            costing.remember(asked.out, known)
        found[name] = known[address]
    return found, failed


def _equal(card: StudyCard, costs: Mapping[str, Cost], unmeasured: Collection[str] = ()) -> dict[str, int]:
    """Of the methods whose costs are known, once all others are known to have none."""
    if not card.budget.equal_compute or not costs or {*costs, *unmeasured} != set(card.recipes):
        return {}
    return costing.equal_compute([_of_study(card, name) for name in card.recipes if name in costs], costs)


def _forecast_with(costs: Mapping[str, Cost], unmeasured: Collection[str]) -> dict[str, Cost]:
    """Costs to forecast by: a method that could not be measured is taken for the slowest one."""
    slowest = sorted(costs.values(), key=lambda cost: sum(cost.seconds))[-1:]
    return {**costs, **{name: cost for name in unmeasured for cost in slowest}}


def _of_study(card: StudyCard, name: str) -> PretrainingCard:
    return next(one.recipe for one in members(card) if one.name == name)


def _address(name: str, asked: Asked) -> str:
    return costing.address(registry.recipe(name), asked.threads, asked.device)


def _pretrained(every: Sequence[Member], where: Where, workers: int, shown: Shown) -> Making:
    of, began = sum(one.keeps[-1] for one in every), time.monotonic()
    done: dict[str, int] = {}
    found = [0]  # pairs that were not shown now

    def told(label: str, pairs: int) -> None:
        done[label] = pairs
        shown.pretrained(sum(done.values()), of)

    def ended(label: str, making: Making) -> None:
        if label in making.failed:
            said = f"failed: {making.failed[label]}"
        else:
            one = making.made[label]
            end = one.member.keeps[-1]
            found[0] += end if one.was_there else 0
            how = "lay there" if one.was_there else "is made"
            said = f"{how}; held-out images find their own report before {_percent(one.held_out[end])} % of the others"
        shown_now = sum(done.values()) - found[0]
        left = (of - sum(done.values())) / shown_now * (time.monotonic() - began) if shown_now > 0 else None
        shown.ended(label, said, len(making.made) + len(making.failed), len(every), left)

    return make(every, where, workers, told, ended)


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * sum(shares) / len(shares):.1f}"


def start_of(study: Study) -> str:
    """Name of what methods begin from, which is one network for all. It reads no text."""
    image = study.members[0].recipe.image
    return f"torchvision:{image.model}" + (f"@{image.weights}" if image.weights else "")


def _backbones(study: Study, *, with_text: bool) -> list[str]:
    """Names of every encoder that was kept, for an evaluation; notes its place."""
    from benchmark.pretraining import export

    found = []
    for member in study.members:
        made = study.making.made.get(member.label)
        for pairs, card in made.cards.items() if made is not None else ():
            title = member.title(pairs)
            study.places[export.with_text(title) if with_text else title] = (member, pairs)
            found.append(str(card.with_name(export.TEXT_CARD) if with_text else card))
    return found
