"""`lobe list`: a table or one JSON document of cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LINEAR = "rsna-linear-frozen-100"


@pytest.mark.parametrize("listing", ["tasks", "suites", "datasets", "backbones", "papers"])
def test_a_listing_is_a_table_or_one_json_document(lobe, listing):
    code, text, err = lobe("list", listing, "--json")
    rows = json.loads(text)
    assert (code, err) == (0, "")
    assert len(rows) > 1
    code, table, _ = lobe("list", listing)
    assert code == 0
    name = str(rows[0].get("name") or rows[0]["id"])
    assert name in table


def test_own_cards_are_marked_custom_in_every_listing(lobe, tmp_path: Path):
    from benchmark import registry

    before = list(registry._included)
    card = registry.task(LINEAR).model_dump(mode="json") | {"id": "mine"}
    suite = {"name": "own", "title": "Own", "description": "Own.", "tasks": ["mine"], "default_protocol": "published"}
    (tmp_path / "own" / "tasks").mkdir(parents=True)
    (tmp_path / "own" / "tasks" / "own.yaml").write_text(json.dumps({"tasks": [card], "suites": [suite]}), encoding="utf-8")
    try:
        for listing, name in (("tasks", "mine"), ("suites", "own")):
            rows = json.loads(lobe("--include", tmp_path / "own", "list", listing, "--json")[1])
            assert {row.get("id") or row["name"] for row in rows if row["custom"]} == {name}
            registry._included[:] = before
            assert "custom" in lobe("--include", tmp_path / "own", "list", listing)[1].splitlines()[0]
            registry._included[:] = before
            registry.forget()
    finally:
        registry._included[:] = before
        registry.forget()
    assert "custom" not in lobe("list", "tasks")[1].splitlines()[0]


def test_tasks_of_one_suite(lobe):
    rows = json.loads(lobe("list", "tasks", "--suite", "lovt-18", "--json")[1])
    assert len(rows) == 18
    assert all("lovt-18" in row["suites"] for row in rows)


@pytest.mark.parametrize(
    ("what", "name", "fields"),
    [
        ("tasks", "rsna-linear-frozen-100", {"published": ["lovt", "rsna-linear-frozen-100"], "recipe_of": None}),
        ("protocols", "published", {"statistics": "dataset", "equalise": "as-released", "data_order": "one-seed"}),
        ("datasets", "rsna", {"notes"}),
        ("backbones", "gloria", {"paper", "origin", "licence", "intensity"}),
        ("prompts", None, {"title", "source", "classes", "templates"}),
        (
            "papers",
            "lovt",
            {"suite": "lovt-18", "protocol": "published", "compared": ["Main results, tasks 1-9", "Main results, tasks 10-18"]},
        ),
    ],
)
def test_listings_show_what_only_cards_say(lobe, what: str, name: str | None, fields):
    code, out, _ = lobe("list", what, "--json")
    rows = [row for row in json.loads(out) if name in (None, row.get("name"), row.get("id"))]
    assert (code, bool(rows)) == (0, True)
    for field in fields:
        assert rows[0][field] == fields[field] if isinstance(fields, dict) else field in rows[0]
