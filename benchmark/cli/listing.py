"""`lobe list`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.options import AsJson
from benchmark.cli.show import show_rows

list_app = typer.Typer(help="What there is: only what runs is listed.", no_args_is_help=True)
app.add_typer(list_app, name="list")


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
            "training_runs": card.runs + (len(card.recipe.grid) if len(card.recipe.grid) > 1 else 0),
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
    rows = [
        {
            "name": s.name,
            "title": s.title,
            "tasks": len(s.tasks),
            "protocol": s.default_protocol,
            "description": s.description,
            "custom": registry.is_custom(s.name, "suites"),
        }
        for s in registry.suites().values()
    ]
    show_rows(rows, as_json, ("name", "title", "tasks", "protocol", "description"))


@list_app.command("datasets")
def list_datasets(as_json: AsJson = False) -> None:
    """Datasets, with licence and what may be redistributed."""
    rows = [
        {
            "name": d.name,
            "title": d.title,
            "images": d.expected.get("images"),
            "classes": list(d.classes),
            "targets": list(d.targets),
            "licence": d.licence,
            "redistribution": d.redistribution,
            "source": d.source,
            "notes": d.notes,
            "custom": registry.is_custom(d.name, "datasets"),
        }
        for d in registry.datasets().values()
    ]
    show_rows(rows, as_json, ("name", "title", "images", "targets", "licence"))


@list_app.command("backbones")
def list_backbones(as_json: AsJson = False) -> None:
    """Backbone cards, and backbones of installed packages. Others go by name: torchvision:resnet50, timm:resnet50@a1_in1k, hf:FOLDER."""
    from benchmark.encoders.naming import entry_points

    rows = [
        {
            "name": b.name,
            "title": b.title,
            "family": b.family,
            "model": b.model,
            "weights": b.weights or "random",
            "status": b.status,
            "paper": b.paper,
            "origin": b.origin,
            "licence": b.licence,
            "intensity": b.intensity,
            "custom": registry.is_custom(b.name, "backbones"),
        }
        for b in registry.backbones().values()
    ]
    installed = {"title": "", "family": "entry point", "weights": "its own", "status": "unverified", "custom": True}
    rows += [{"name": name, "model": where.rpartition(":")[2], **installed} for name, where in entry_points().items()]
    show_rows(rows, as_json, ("name", "title", "family", "model", "weights", "status"))


@list_app.command("papers")
def list_papers(as_json: AsJson = False) -> None:
    """Papers whose printed numbers `lobe reproduce` shows, beside measured ones where tables are compared."""
    rows = [
        {
            "name": paper.name,
            "title": paper.title,
            "citation": paper.citation,
            "suite": paper.suite,
            "protocol": paper.protocol,
            "compared": [table.title for table in paper.tables if table.compared],
            "custom": registry.is_custom(paper.name, "papers"),
        }
        for paper in registry.papers().values()
    ]
    show_rows(rows, as_json, ("name", "title", "suite", "compared"))


@list_app.command("protocols")
def list_protocols(as_json: AsJson = False) -> None:
    """Protocols: rules under which rows may be compared, each with its switches."""
    rows = [
        {"name": rules.name, "title": rules.title, "statistics": rules.statistics, "equalise": rules.equalise}
        | rules.switches.model_dump()
        | {"custom": registry.is_custom(rules.name, "protocols")}
        for rules in registry.protocols().values()
    ]
    show_rows(rows, as_json, ("name", "title", "statistics", "equalise"))


@list_app.command("prompts")
def list_prompts(as_json: AsJson = False) -> None:
    """Sets of prompts for tasks that ask in words, with their source."""
    rows = [
        {
            "name": p.name,
            "title": p.title,
            "classes": list(p.classes),
            "templates": len(p.templates),
            "source": p.source,
            "custom": registry.is_custom(p.name, "prompts"),
        }
        for p in registry.prompts().values()
    ]
    show_rows(rows, as_json, ("name", "title", "classes", "templates", "source"))
