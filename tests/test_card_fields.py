"""Every field of every card changes a key, a result or a page: a field that nobody reads is a promise that nobody keeps.

Fields of an experiment change its key (`test_cards.py` changes each of them). All others are looked for in the source: somebody outside
the vocabulary must read the field of an object that goes by the card's name there.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

import benchmark
from benchmark import cards, registry, resolve
from benchmark.cards import BackboneRef, Card, Experiment, Normalisation
from benchmark.errors import CardError, ConformanceError
from benchmark.metrics.spec import rises
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.training.shared_work import SharedWork

SOURCE = Path(benchmark.__file__).parent
ANYWHERE = ""

# Card -> part of the package (a path's beginning) -> what an object of it is called there. The parts are narrow where cards share a name.
CALLED: dict[str, dict[str, set[str]]] = {
    "BackboneSpec": {ANYWHERE: {"spec"}},
    "BackboneCard": {
        "encoders/naming.py": {"card"},
        "encoders/kept_weights.py": {"card"},
        "fetching/": {"card"},
        "check_backbone.py": {"card"},
        "cli/listing.py": {"backbone", "card"},
    },
    "ReleaseCard": {"fetching/": {"release"}, "registry.py": {"card"}},
    "ReleaseFile": {"fetching/": {"file"}},
    "PublishedFile": {"encoders/kept_weights.py": {"published"}, "fetching/": {"published"}},
    "SplitCounts": {"readers/": {"counts"}, "report/admission.py": {"counts"}, "data.py": {"counts"}},
    "SplitRule": {"readers/": {"rule", "expected"}, "report/admission.py": {"?Subscript"}, "training/data.py": {"rule"}},
    "Deviation": {"readers/": {"known", "d"}},
    "CollectionCard": {"registry.py": {"card"}},
    "DatasetCard": {
        ANYWHERE: {"dataset_card"},
        **{part: {"card"} for part in ("readers/", "resolve.py", "data.py", "contamination.py")},
        "imaging/": {"card"},
        "kinds/": {"dataset", "card"},
        "cli/listing.py": {"dataset", "card"},
    },
    "OwnData": {"readers/": {"own"}},
    "CocoData": {"readers/": {"own"}},
    "MaskData": {"readers/": {"own"}},
    "CsvData": {"readers/": {"own"}},
    "BoxColumns": {"readers/": {"asked", "boxes"}},
    "YoloData": {"readers/": {"own"}},
    "PairData": {"readers/": {"own"}},
    "OwnSplit": {"readers/": {"split"}},
    "Protocol": {
        "resolve.py": {"protocol"},
        "plan.py": {"protocol"},
        "cli/listing.py": {"protocol", "rules", "card"},
        "registry.py": {"rules"},
    },
    "TaskCard": {"plan.py": {"task"}, "cli/listing.py": {"card"}, "request.py": {"card"}, "registry.py": {"task", "card"}},
    "SuiteCard": {"cli/listing.py": {"s", "suite", "card"}, "registry.py": {"card"}, "resolve.py": {"suite"}, "request.py": {"suite"}},
    "GridCard": {"grid.py": {"grid"}, "registry.py": {"card", "grid"}},
    "HeadFacts": {
        "plan.py": {"?Call", "facts"},
        "execute/costs.py": {"?Call"},
        "submission/": {"?Call"},
        "execute/memory.py": {"facts"},
        "heads/networks/pyramid.py": {"facts"},
        "grid.py": {"facts"},
        "task_rules.py": {"rule", "facts"},
    },
    "LineupCard": {"panels.py": {"lineup"}, "cli/": {"card"}},
    "PanelCard": {ANYWHERE: {"panel", "card"}},
    "PanelRow": {"cli/listing.py": {"row"}},
    "PanelTask": {"panels.py": {"scale"}, "report/contenders.py": {"scale"}, "cli/listing.py": {"scale"}},
    "PaperCard": {"report/": {"card"}, "cli/listing.py": {"paper", "card"}},
    "PaperMethod": {"report/": {"method", "line"}},
    "PaperTable": {"report/": {"table", "t", "card", "one"}},
    "PrintedMetric": {"report/": {"metric"}},
    "PretrainingCard": {"pretraining/": {"card"}, "cli/": {"card"}},
    "StudyCard": {"study/": {"card"}, "cli/": {"card"}},
    "StudyBudget": {"study/": {"budget"}},
    "StudyClaim": {"study/": {"claim"}},
    "StudyAblation": {"study/": {"ablation", "one"}},
    "StudyLadder": {"study/": {"ladder"}},
    "StudyEvaluation": {"study/": {"judged", "evaluation"}},
    "PromptTemplate": {"heads/prompts.py": {"template"}},
    "PromptCard": {"heads/prompts.py": {"card"}, "plan.py": {"card"}, "cli/listing.py": {"prompts", "p", "card"}},
    "Labels": {ANYWHERE: {"labels", "names"}},
    "Job": {ANYWHERE: {"job", "j"}},
    "Epoch": {"report/": {"point", "p", "line"}, "tracking/": {"line"}, "execute/": {"epoch"}, "progress.py": {"epoch"}},
    "Choice": {"rate_search.py": {"made"}},
    "Failure": {ANYWHERE: {"failure"}},
    "Record": {ANYWHERE: {"record", "r"}},
}
# Read by other means, each with its reason.
OTHERWISE = {
    "Choice.failed": "by whoever checks a search, beside the records of its runs",
    "Record.choice": "as `Record.warnings` say it (`rate_search.sentences`); whole for whoever checks a search",
    "DatasetCard.image_source": "as `DatasetCard.family`, in `lobe list datasets`",
    "DatasetCard.patients_of": "by the headline, which resamples such patients together (`report.contenders`)",
    **{f"DatasetCard.{block}": "as `DatasetCard.own`, by the generic readers" for block in ("coco", "masks", "csv", "yolo", "pairs")},
    "OwnSplit.names": "by `OwnSplit.split_of`",
    "Record.schema_version": "of the raw JSON, before there is a record (`store`)",
    "Failure.traceback": "by whoever mends the code, in the record: it may hold paths, so no page shows it",
}


def classes() -> list[type[Card]]:
    return [found for found in vars(cards).values() if isinstance(found, type) and issubclass(found, Card) and found is not Card]


def hashed(card: type[Card] = Experiment) -> set[type[Card]]:
    """The cards an experiment is made of."""
    return {card}.union(*(hashed(one) for field in card.model_fields.values() for one in _cards_in(field.annotation)))


def _cards_in(annotation: object) -> set[type[Card]]:
    if isinstance(annotation, type) and issubclass(annotation, Card):
        return {annotation}
    return set().union(*map(_cards_in, get_args(annotation)))


@cache
def reads() -> dict[str, dict[str, set[str]]]:
    """Attribute -> file -> names of the objects it is read of, without the vocabulary itself."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("cards/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.setdefault(node.attr, {}).setdefault(name, set()).add(_called(node.value))
    return found


def _called(value: ast.expr) -> str:
    if isinstance(value, ast.Name):
        return value.id
    return value.attr if isinstance(value, ast.Attribute) else f"?{type(value).__name__}"


def unread(card: type[Card]) -> list[str]:
    """Fields of a card that nobody reads."""
    called = CALLED[card.__name__]
    return [f for f in card.model_fields if f"{card.__name__}.{f}" not in OTHERWISE and not _is_read(f, called)]


def _is_read(field: str, called: dict[str, set[str]]) -> bool:
    found = reads().get(field, {}).items()
    return any(file.startswith(part) and not names.isdisjoint(of) for file, names in found for part, of in called.items())


def test_every_card_is_part_of_an_experiment_or_has_a_name_here():
    parts = {one.__name__ for one in hashed()}
    assert {"BackboneRef", "DatasetRef", "Recipe", "Switches", "Words", "AskedPrompts", "Normalisation", "SplitRule"} <= parts
    assert {one.__name__ for one in classes()} == parts | set(CALLED)


@pytest.mark.parametrize("card", [one for one in classes() if one.__name__ in CALLED], ids=lambda card: card.__name__)
def test_every_field_of_a_card_is_read_somewhere(card: type[Card]):
    assert unread(card) == []


def test_a_field_that_nobody_reads_is_found():
    for name in CALLED:
        more = type(name, (getattr(cards, name),), {"__annotations__": {"of_no_use": int}, "of_no_use": 0})
        assert unread(more) == ["of_no_use"]


@pytest.mark.parametrize("metric", ["brier", "calibration_error", "edema_brier", "duplicate_rate"])
@pytest.mark.parametrize("key", ["select", "report"])
def test_a_task_cannot_be_judged_by_a_number_that_falls_with_quality(metric: str, key: str):
    """Higher is better wherever an epoch, a rate or a row is chosen, so a card has no field that could say otherwise."""
    task = registry.task("rsna-linear-frozen-100").model_copy(update={key: metric})
    backbone = NamedBackbone("random", BackboneRef(family="torchvision", model="resnet18", digest=None))
    with pytest.raises(CardError, match=rf"`{key}` is {metric}, whose lowest value is the best"):
        plan([task], [backbone], {}, registry.protocol("published"), Settings())


def test_no_shipped_task_is_judged_by_a_number_that_falls_with_quality():
    assert not [task.id for task in registry.tasks().values() if not (rises(task.select) and rises(task.report))]


OWN = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
STATING = f"""from benchmark.cards import Normalisation
    torch.manual_seed(5)
    made = Tiny()
    made.spec = made.spec.model_copy(update={{'normalisation': Normalisation(mean={OWN.mean}, std={OWN.std})}})
    return made"""


def test_a_protocol_of_the_backbones_own_statistics_is_another_key_and_another_number(small, tiny, corpora: Path):
    protocol = registry.protocol("published")
    about = registry.dataset("rsna")
    refs = [resolve.dataset(about, corpora / "rsna", p).ref for p in (protocol, protocol.model_copy(update={"statistics": "backbone"}))]
    assert [ref.normalised_by for ref in refs] == ["dataset", "backbone"]
    file, found = tiny(at_build=STATING), []
    for rule in ("dataset", "backbone"):
        job, place = small.one("rsna-linear-frozen-100", file, data={"normalised_by": rule})
        shared = SharedWork()
        found.append((job.key, small.fit(job, place, shared=shared).curve))
        assert shared.encoder.normalisation == (OWN if rule == "backbone" else about.statistics)
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_a_backbone_that_states_no_statistics_is_refused_by_such_a_protocol(small, tiny):
    job, place = small.one("rsna-linear-frozen-100", tiny(), data={"normalised_by": "backbone"})
    with pytest.raises(ConformanceError, match="tiny states no normalisation of its own, and the protocol asks for it"):
        small.fit(job, place)


def test_a_cards_statistics_take_the_place_of_the_backbones_own(small, tiny):
    file = tiny()
    named = small.backbone(file)
    named = replace(named, named=replace(named.named, ref=named.named.ref.model_copy(update={"normalisation": OWN})))
    (job,), places = small.plan("rsna-linear-frozen-100", [named], data={"normalised_by": "backbone"})
    shared = SharedWork()
    small.fit(job, next(iter(places.values())), shared=shared)
    assert shared.encoder.normalisation == OWN
