"""`lobe list`: what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from benchmark import registry
from benchmark.cards import BackboneCard, DatasetCard, PanelTask, PaperCard, PretrainingCard, PromptCard, Protocol, SuiteCard, Switches
from benchmark.cli.app import app
from benchmark.cli.options import AsJson, SubmissionsOption
from benchmark.cli.show import show_rows
from benchmark.rate_search import n_runs

list_app = typer.Typer(help="What there is: only what runs is listed.", no_args_is_help=True)
app.add_typer(list_app, name="list")

AnyCard = TypeVar("AnyCard", BackboneCard, DatasetCard, PaperCard, PretrainingCard, PromptCard, Protocol, SuiteCard)


@list_app.command("tasks")
def list_tasks(
    suite: Annotated[str | None, typer.Option("--suite", help="Only this suite's tasks.")] = None, as_json: AsJson = False
) -> None:
    """Tasks, with dataset, head, labels and reported metric."""
    names = registry.suite(suite).tasks if suite else tuple(registry.tasks())
    suites = {name: [s.name for s in registry.suites().values() if name in s.tasks] for name in names}
    rows = [
        {
            "id": card.id,
            "title": card.title,
            "dataset": card.dataset,
            "head": card.head,
            "encoder": card.encoder.value,
            "labels_percent": card.fraction * 100,
            "metric": card.report,
            "runs": card.runs,
            "training_runs": card.runs + n_runs(registry.protocol(card.protocols[0]), card),
            "suites": suites[name],
            "protocols": list(card.protocols),
            "version": card.version,
            "published": None if card.published is None else list(card.published),
            "recipe_of": card.parent,
            "custom": registry.is_custom(card.id, "tasks"),
        }
        for name, card in ((name, registry.task(name)) for name in names)
    ]
    show_rows(rows, as_json, ("id", "title", "metric", "runs", "training_runs", "suites"))


@list_app.command("suites")
def list_suites(as_json: AsJson = False) -> None:
    """Suites: named groups of tasks."""

    def facts(suite: SuiteCard) -> dict[str, Any]:
        return {
            "tasks": len(suite.tasks),
            "protocol": suite.default_protocol,
            "reference": suite.reference or None,
            "extended": suite.extended or None,
            "description": suite.description,
        }

    _show("suites", registry.suites(), facts, as_json, ("name", "title", "tasks", "protocol", "description"))


@list_app.command("datasets")
def list_datasets(as_json: AsJson = False) -> None:
    """Datasets, with licence and what may be redistributed."""

    def facts(dataset: DatasetCard) -> dict[str, Any]:
        return {
            "images": dataset.expected.get("images"),
            "classes": list(dataset.classes),
            "targets": list(dataset.targets),
            "terms": dataset.terms,
            "licence": dataset.licence,
            "redistribution": dataset.redistribution,
            "images_of": dataset.family,
            "source": dataset.source,
            "notes": dataset.notes,
        }

    _show("datasets", registry.datasets(), facts, as_json, ("name", "title", "images", "targets", "terms", "licence"))


@list_app.command("backbones")
def list_backbones(as_json: AsJson = False) -> None:
    """Backbone cards, and backbones of installed packages. Others go by name: torchvision:resnet50, timm:resnet50@a1_in1k, hf:FOLDER."""
    from benchmark.encoders.naming import entry_points

    def facts(backbone: BackboneCard) -> dict[str, Any]:
        return {
            "family": backbone.family,
            "model": backbone.model,
            "weights": backbone.weights or "random",
            "status": backbone.status,
            "paper": backbone.paper,
            "origin": backbone.origin,
            "licence": backbone.licence,
            "input_size": backbone.input_size,
            "intensity": backbone.intensity,
        }

    rows = _rows("backbones", registry.backbones(), facts)
    installed = {"title": "", "family": "entry point", "weights": "its own", "status": "unverified", "custom": True}
    rows += [{"name": name, "model": where.rpartition(":")[2], **installed} for name, where in entry_points().items()]
    show_rows(rows, as_json, ("name", "title", "family", "model", "weights", "status"))


@list_app.command("papers")
def list_papers(as_json: AsJson = False) -> None:
    """Papers whose printed numbers `lobe reproduce` shows, beside measured ones where tables are compared."""

    def facts(paper: PaperCard) -> dict[str, Any]:
        compared = [table.title for table in paper.tables if table.compared]
        return {"citation": paper.citation, "suite": paper.suite, "protocol": paper.protocol, "compared": compared}

    _show("papers", registry.papers(), facts, as_json, ("name", "title", "suite", "compared"))


@list_app.command("recipes")
def list_recipes(as_json: AsJson = False) -> None:
    """Recipes of pretraining, for `lobe pretrain`."""

    def facts(card: PretrainingCard) -> dict[str, Any]:
        return {
            "title": card.title,
            "method": card.method,
            "protocol": card.protocol,
            "dataset": card.pairs.dataset,
            "image": f"{card.image.model}, {card.image.size} px",
            "pairs": card.budget.pairs,
            "source": card.source,
            "unverified": list(card.unverified),
        }

    _show("pretraining", registry.pretraining(), facts, as_json, ("name", "title", "method", "protocol", "dataset", "image", "pairs"))


@list_app.command("panels")
def list_panels(as_json: AsJson = False) -> None:
    """Reference panels that are frozen, and line-ups to measure one from."""
    rows: list[dict[str, Any]] = [
        {
            "name": panel.version,
            "kind": "phantom panel" if panel.phantom else "panel",
            "suite": panel.suite,
            "protocol": panel.protocol,
            "lineup": panel.lineup,
            "backbones": [row.backbone for row in panel.rows],
            "digests": {row.backbone: row.digest for row in panel.rows},
            "scores": {row.backbone: row.scores for row in panel.rows},
            "records": {row.backbone: row.records for row in panel.rows},
            "tasks": list(panel.tasks),
            "scales": {name: _scale_facts(scale) for name, scale in panel.tasks.items()},
            "left_out": panel.left_out,
            "made_by": panel.made_by,
            "frozen_on": panel.frozen_on,
            "checksum": panel.checksum,
        }
        for panel in registry.panels().values()
    ]
    rows += [
        {
            "name": card.name,
            "kind": "line-up",
            "title": card.title,
            "suite": card.suite,
            "backbones": list(card.backbones),
            "anchors": card.anchors,
            "custom": registry.is_custom(card.name, "lineups"),
        }
        for card in registry.lineups().values()
    ]
    show_rows(rows, as_json, ("name", "kind", "suite", "backbones", "tasks", "frozen_on"))


def _scale_facts(scale: PanelTask) -> dict[str, Any]:
    better = "higher" if scale.rises else "lower"
    facts = {"metric": scale.metric, "better": better, "median": scale.median, "iqr": scale.iqr, "reliability": scale.reliability}
    return facts | {"task_version": scale.task_version, "dataset_digest": scale.dataset_digest}


@list_app.command("protocols")
def list_protocols(as_json: AsJson = False) -> None:
    """Protocols: rules under which rows may be compared, each with its switches."""

    def facts(rules: Protocol) -> dict[str, Any]:
        grids = {mode.value: {head: list(rates) for head, rates in by_head.items()} for mode, by_head in rules.grids.items()}
        stated = {"version": rules.version, "geometry": rules.geometry, "statistics": rules.statistics, "equalise": rules.equalise}
        return stated | {"grids": grids} | Switches.came_later() | rules.switches.model_dump()

    _show("protocols", registry.protocols(), facts, as_json, ("name", "version", "title", "geometry", "statistics", "equalise"))


@list_app.command("prompts")
def list_prompts(as_json: AsJson = False) -> None:
    """Sets of prompts for tasks that ask in words, with their source."""

    def facts(prompts: PromptCard) -> dict[str, Any]:
        return {"classes": list(prompts.classes), "templates": len(prompts.templates), "source": prompts.source}

    _show("prompts", registry.prompts(), facts, as_json, ("name", "title", "classes", "templates", "source"))


@list_app.command("submissions")
def list_submissions(submissions: SubmissionsOption = None, as_json: AsJson = False) -> None:
    """What happened to submissions, oldest first: accepted, withdrawn, corrected, superseded, and why."""
    from benchmark.submission import history
    from benchmark.submission.shown import default_folder

    entries = history.read(submissions or default_folder())
    standing = history.standing(entries)
    rows = [{**entry.model_dump(mode="json"), "stands": standing.get(entry.id) is entry} for entry in entries]
    show_rows(rows, as_json, ("date", "what", "id", "trust", "backbones", "stands", "why"))


def _rows(section: str, cards: Mapping[str, AnyCard], facts: Callable[[AnyCard], dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a card: name and title, its facts, and whether it is the user's own."""
    return [
        {"name": card.name, "title": card.title} | facts(card) | {"custom": registry.is_custom(card.name, section)}
        for card in cards.values()
    ]


def _show(
    section: str, cards: Mapping[str, AnyCard], facts: Callable[[AnyCard], dict[str, Any]], as_json: bool, columns: tuple[str, ...]
) -> None:
    show_rows(_rows(section, cards, facts), as_json, columns)
