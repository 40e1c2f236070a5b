"""What a card may ask for: which head, target, metric, class and split go together. Refused here is what no job could compute.

All that is wrong with a card is said at once, with its file. What a kind of task needs and measures, the kind says (`benchmark.kinds`). No
framework is imported, no file of a dataset is opened.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Literal, TypeVar

from benchmark import kinds, registry
from benchmark.cards import (
    BackboneCard,
    DatasetCard,
    EncoderMode,
    Experiment,
    OwnData,
    PaperCard,
    PromptCard,
    Recipe,
    SuiteCard,
    TaskCard,
    Words,
)
from benchmark.errors import CardError, LobeError
from benchmark.heads.prompts import prompt_sets
from benchmark.kinds.base import Kind, Names
from benchmark.kinds.kit.untrained import UntrainedKind
from benchmark.metrics import spec
from benchmark.own import catalogue

Repeated = TypeVar("Repeated")

UNSELECTED = "none"  # `select` of a task that trains nothing
Track = Literal["linear-frozen", "head-frozen", "fine-tuned", "text"]


def require(tasks: Iterable[TaskCard]) -> None:
    """
    Raises:
        CardError: a task that cannot be, with everything that is wrong with it and with the file it stands in.
    """
    _raise_for(("tasks", task.id, task_faults(task, registry.datasets(), registry.prompts(), registry.protocols())) for task in tasks)


def require_included() -> None:
    """Checks every card of the folders that the user included, and that the names of their modules are free.

    Raises:
        CardError: as `require`, for cards of all kinds at once.
    """
    if twice := catalogue.taken_twice():
        raise CardError("\n".join(twice))
    _raise_for(included_faults())


def included_faults() -> Iterator[tuple[str, str, list[str]]]:
    """(section, name, what is wrong) of every card of the folders that the user included."""
    datasets, prompts, protocols, tasks = registry.datasets(), registry.prompts(), registry.protocols(), registry.tasks()
    faults_of: dict[str, Callable[[str], list[str]]] = {
        "datasets": lambda name: dataset_faults(datasets[name]),
        "backbones": lambda name: backbone_faults(registry.backbones()[name]),
        "prompts": lambda name: prompt_faults(prompts[name]),
        "tasks": lambda name: task_faults(tasks[name], datasets, prompts, protocols),
        "suites": lambda name: suite_faults(registry.suites()[name], tasks, protocols, registry.suites(), registry.backbones()),
        "papers": lambda name: paper_faults(registry.papers()[name], registry.suites(), protocols),
    }
    custom = sorted(registry.custom_cards())
    yield from ((section, name, faults_of[section](name)) for section in faults_of for of, name in custom if of == section)


def track_of(task: TaskCard | Experiment) -> Track:
    """Which tasks a headline may average: tracks order backbones differently.

    A linear head reads one level of the encoder, or its embedding, and has no trained layer before its last one.
    """
    if task.words is not None:
        return "text"
    if task.encoder is EncoderMode.FINETUNE:
        return "fine-tuned"
    facts = registry.head(task.head)
    return "linear-frozen" if facts.linear and facts.reads in ("deepest", "pooled") else "head-frozen"


def task_faults(
    task: TaskCard, datasets: Mapping[str, DatasetCard], prompts: Mapping[str, PromptCard], protocols: Collection[str]
) -> list[str]:
    """Everything that is wrong with a task, one sentence each; empty for one that can be computed."""
    found = [_unknown("protocols", "protocol", name, protocols) for name in task.protocols if name not in protocols]
    if not task.protocols:
        found.append("`protocols` is empty: name at least one.")
    if task.runs < 1:
        found.append(f"`runs` is {task.runs}; at least 1.")
    rules = registry.heads()
    dataset, rule = datasets.get(task.dataset), rules.get(task.head)
    if dataset is None:
        found.append(_unknown("dataset", "dataset", task.dataset, datasets))
    else:
        found += _of_data(task, dataset)
    if rule is None:
        found.append(_unknown("head", "head", task.head, rules))
        return found
    if task.target != rule.target:
        fitting = ", ".join(name for name, other in rules.items() if other.target == task.target)
        found.append(
            f"`target` is {task.target}, and the head {task.head} takes {rule.target}. Heads for {task.target}: {fitting or 'none'}."
        )
    found += _of_training(task) if rule.trains else _of_words(task, dataset, prompts)
    if rule.trains and task.words is not None:
        found.append(f"`words` is of tasks that train nothing, and the head {task.head} is trained.")
    if dataset is not None and task.target == rule.target:
        found += _of_metrics(task, dataset, prompts)
    return found


def dataset_faults(card: DatasetCard) -> list[str]:
    """Everything that is wrong with a dataset card, as far as the card alone tells."""
    found = []
    alike: list[DatasetCard] | list[OwnData] = (
        [card.own] if card.own is not None else [other for other in _shipped_datasets() if other.reader == card.reader]
    )
    readers = registry.plugins("readers")
    if catalogue.find("readers", card.reader) is not None:
        pass  # what it gives, nobody knows before it has read something
    elif card.reader.replace("-", "_") not in readers or not alike:
        found.append(_unknown("reader", "reader", card.reader, readers))
    else:
        given = dict.fromkeys(target for other in alike for target in other.targets)
        found += [
            f"`targets` has {name}, which the reader {card.reader} does not give; it gives {', '.join(given)}."
            for name in card.targets
            if name not in given
        ]
    if not card.targets:
        found.append("`targets` is empty: nothing can be asked of it.")
    if ("masks" in card.targets) != (card.mask_source != "none"):
        found.append(
            f"`mask_source` is {card.mask_source} and `targets` are {', '.join(card.targets)}: they say different things of masks."
        )
    if len(set(card.classes)) < len(card.classes):
        found.append(f"`classes` has {_repeated(card.classes)} twice.")
    if not card.classes and set(card.targets) - {"reports"}:
        found.append("`classes` is empty, and only reports need none.")
    if not card.splits:
        found.append("`splits` is empty: a dataset has at least one.")
    found += [_unknown("parts", "dataset", name, registry.datasets()) for name in card.parts.values() if name not in registry.datasets()]
    known = {**registry.datasets(), **registry.collections()}
    found += [_unknown("shares_with", "dataset or collection", name, known) for name in card.shares_with or () if name not in known]
    return found


def backbone_faults(card: BackboneCard) -> list[str]:
    """Everything that is wrong with a backbone card, as far as the card alone tells."""
    found = []
    if not _is_family(card.family):
        families = set(filter(_is_family, registry.plugins("encoders")))
        found.append(_unknown("family", "family of backbones", card.family, families))
    if not 0 < card.minimum_loaded <= 1:
        found.append(f"`minimum_loaded` is {card.minimum_loaded:g}; a share above 0 and up to 1 is expected.")
    datasets = registry.datasets()
    found += [_unknown("contamination", "dataset", name, datasets) for name in card.contamination if name not in datasets]
    return found


def prompt_faults(card: PromptCard) -> list[str]:
    try:
        prompt_sets(card)
    except LobeError as error:
        return [str(error)]
    except (IndexError, KeyError, ValueError) as error:
        return [f"`templates` cannot be filled in ({error}): `{{}}` stands for a class's words."]
    return []


def suite_faults(
    card: SuiteCard,
    tasks: Mapping[str, TaskCard],
    protocols: Collection[str],
    suites: Collection[str],
    backbones: Collection[str],
) -> list[str]:
    """Everything that is wrong with a suite.

    Args:
        suites, backbones: those that it may name.
    """
    found = [_unknown("tasks", "task", name, tasks) for name in card.tasks if name not in tasks]
    found += [_unknown("extended", "suite", name, suites) for name in filter(None, [card.extended]) if name not in suites]
    found += [_unknown("reference", "backbone", name, backbones) for name in filter(None, [card.reference]) if name not in backbones]
    if card.default_protocol not in protocols:
        return [*found, _unknown("default_protocol", "protocol", card.default_protocol, protocols)]
    without = [name for name in card.tasks if name in tasks and card.default_protocol not in tasks[name].protocols]
    if without:
        found.append(f"`default_protocol` is {card.default_protocol}, which {', '.join(without[:3])} do not offer.")
    return found


def paper_faults(card: PaperCard, suites: Collection[str], protocols: Collection[str]) -> list[str]:
    """Everything that is wrong with a paper's card alone; `published.tables` holds it against the paper's file of numbers."""
    found = [] if card.suite is None or card.suite in suites else [_unknown("suite", "suite", card.suite, suites)]
    if card.protocol not in protocols:
        found.append(_unknown("protocol", "protocol", card.protocol, protocols))
    named = [(table.title, table.origin) for table in card.tables]
    if len(set(named)) < len(named):
        found.append(f"`tables` has {_repeated(named)} twice.")
    if not any(table.compared for table in card.tables) and (card.methods or card.metrics):
        found.append("`methods` and `metrics` are of compared tables, and no table is `compared: true`.")
    return found


def metric_names(task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard]) -> Names:
    """Every metric that a task of this head on this dataset computes."""
    rule = registry.head(task.head)
    return kinds.find(rule.target, trains=rule.trains).metric_names(task, dataset, prompts, rule.exclusive)


# ---------------------------------------------------------------------------------------------------------- parts of a task


def _of_data(task: TaskCard, dataset: DatasetCard) -> list[str]:
    found = []
    if task.split not in dataset.splits:
        found.append(f"`split` is {task.split!r}, which {dataset.name} does not have. It offers: {', '.join(dataset.splits)}.")
    kind = _kind_of(task)
    needed = task.target if kind is None else kind.needed(task.words)
    if needed not in dataset.targets:
        found.append(f"`target` is {task.target}, for which {dataset.name} has no {needed}. It has: {', '.join(dataset.targets)}.")
    return found


def _of_training(task: TaskCard) -> list[str]:
    recipe, found = task.recipe, []
    if not 0 < task.fraction <= 1:
        found.append(f"`fraction` is {task.fraction:g}; a share of the training images above 0 and up to 1 is expected.")
    for key, low in (("batch_size", 1), ("max_epochs", 1), ("patience", 0), ("warmup_steps", 0), ("max_steps", 1)):
        value = getattr(recipe, key)
        if value is not None and value < low:
            found.append(f"`recipe.{key}` is {value}; at least {low}.")
    if not 0 < recipe.validation_subset <= 1:
        found.append(f"`recipe.validation_subset` is {recipe.validation_subset:g}; a share above 0 and up to 1 is expected.")
    if registry.head(task.head).at_once:
        found += _of_one_pass(task)
    found += [f"`recipe` learns at a rate of {rate:g}; a rate is above 0." for rate in _rates(recipe) if not rate > 0]
    if len(set(recipe.grid)) < len(recipe.grid):
        found.append(f"`recipe.grid` has {_repeated(recipe.grid):g} twice.")
    kind = kinds.find(registry.head(task.head).target, trains=True)
    if recipe.augmentation is not None and not kind.moves_with_images:
        found.append(f"`recipe.augmentation` moves images and masks; {kind.target} would stay where they were.")
    return found


def _of_one_pass(task: TaskCard) -> list[str]:
    """What a head that keeps its examples asks of its card: others would be promised what never happens."""
    found = []
    if task.encoder is not EncoderMode.FROZEN:
        found.append(f"`encoder` is {task.encoder}, and the head {task.head} keeps examples of a frozen one.")
    if task.recipe.grid:
        found.append(f"`recipe.grid` has learning rates, and the head {task.head} has none.")
    return found


def _rates(recipe: Recipe) -> tuple[float, ...]:
    return recipe.grid or (recipe.learning_rate,)


def _of_words(task: TaskCard, dataset: DatasetCard | None, prompts: Mapping[str, PromptCard]) -> list[str]:
    if task.words is None:
        return [f"the head {task.head} compares images with words: say what is asked under `words`."]
    found = []
    if task.encoder is not EncoderMode.FROZEN:
        found.append(f"`encoder` is {task.encoder}, and a task that trains nothing has a frozen one.")
    for key, words in (("words", task.words), ("words_as_released", task.words_as_released)):
        if words is not None:
            found += [f"`{key}.{said}" for said in _of_question(task, words, dataset, prompts)]
    return found


def _of_question(task: TaskCard, words: Words, dataset: DatasetCard | None, prompts: Mapping[str, PromptCard]) -> list[str]:
    """Sentences that begin behind `words.`, the key first."""
    others = _untrained_kinds()
    kind = next(kind for kind in others if kind.target == registry.head(task.head).target)
    found = kind.question_faults(words, dataset)
    for key in sorted(set().union(*(other.reads for other in others)) - kind.reads):
        if getattr(words, key) != Words.model_fields[key].default:
            found.append(f"{key}` is of {' and '.join(other.name for other in others if key in other.reads)}.")
    if words.prompts is not None and words.prompts not in prompts:
        found.append(_unknown("prompts", "set of prompts", words.prompts, prompts).removeprefix("`"))
    elif words.prompts is not None and dataset is not None:
        silent = [name for name in dataset.classes if name not in prompts[words.prompts].classes]
        if silent:
            found.append(f"prompts` is {words.prompts}, which has no words for {', '.join(silent)} of {dataset.name}.")
    return found


def _of_metrics(task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard]) -> list[str]:
    names = metric_names(task, dataset, prompts)
    found = []
    for key, metric, known in (("select", task.select, names.select), ("report", task.report, names.report)):
        if not registry.head(task.head).trains and key == "select":
            if metric != UNSELECTED:
                found.append(f"`select` is {metric}, and a task that trains nothing selects nothing: write {UNSELECTED}.")
        elif metric in known and not spec.rises(metric):
            found.append(f"`{key}` is {metric}, whose lowest value is the best; a task is judged by one that rises.")
        elif metric not in known:
            usable = sorted(name for name in known if spec.rises(name))
            said = "chosen by" if key == "select" else "reported of"
            place = "an epoch" if key == "select" else "a test"
            shown = f"{', '.join(usable[:_SHOWN])}{f', and {len(usable) - _SHOWN} more' if len(usable) > _SHOWN else ''}"
            found.append(
                f"`{key}` is {metric}, which the head {task.head} on {dataset.name} never computes.{_meant(metric, usable)} "
                f"What {place} can be {said}: {shown}."
            )
    return found


_SHOWN = 12  # names in a sentence


def _kind_of(task: TaskCard) -> Kind | None:
    """The kind of the task; None where no kind has its target, which its head's rule says."""
    try:
        return kinds.of_task(task)
    except CardError:
        return None


def _untrained_kinds() -> list[UntrainedKind]:
    return [kind for kind in kinds.every() if isinstance(kind, UntrainedKind)]


# --------------------------------------------------------------------------------------------------------------- sentences


def _raise_for(found: Iterable[tuple[str, str, list[str]]]) -> None:
    said = []
    for section, name, faults in found:
        if faults:
            file = registry.file_of(name, section)
            said += [f"{'' if file is None else f'{file.name}: '}{section.rstrip('s')} {name}:", *(f"  - {fault}" for fault in faults)]
    if said:
        raise CardError("\n".join(said))


def _unknown(key: str, kind: str, name: str, known: Collection[str]) -> str:
    """The key, in backticks, is the first word."""
    shown = f" There are: {', '.join(sorted(known))}." if len(known) <= _SHOWN else ""
    return f"`{key}` names {name!r}, and there is no such {kind}.{_meant(name, known)}{shown}"


def _meant(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _repeated(values: Collection[Repeated]) -> Repeated:
    listed = list(values)
    return next(value for value in listed if listed.count(value) > 1)


def _shipped_datasets() -> list[DatasetCard]:
    return [card for card in registry.datasets().values() if not registry.is_custom(card.name, "datasets")]


def _is_family(name: str) -> bool:
    return name in registry.plugins("encoders") and registry.defines("encoders", name, "build")
