"""What a study says of scores that are known: a claim that holds, ones that do not and why, and the same on its pages."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cards import Contamination
from benchmark.cards.studies import RETRIEVAL, START
from benchmark.study import page, reading, running
from benchmark.study.caveats import Caveats
from benchmark.study.costs import Cost
from benchmark.study.findings import findings, rungs
from benchmark.study.making import Making
from benchmark.study.members import members
from benchmark.study.running import Study
from benchmark.study.scores import Score, Table, compared
from tests.study.test_reading import STUDY

TASK = "rsna-linear-frozen-rehearsal"
METHOD, REFERENCE, PLAIN, MIXED = "lovt-phantom", "convirt-phantom", "lovt-global-phantom", "lovt-phantom-shuffled"
N_PATIENTS = 60


def score(mean: float, spread: float = 0.004, n_seeds: int = 3) -> Score:
    """Scores around a mean: pretraining seeds as far apart as `spread`, runs a quarter of it, patients 0.01 in common."""
    by_seed = {s: tuple(mean + spread * (s - 1) + spread / 4 * (r - 1) for r in range(3)) for s in range(n_seeds)}
    drawn = np.random.default_rng(3).normal(0, 0.01, (200, 1))
    own = np.random.default_rng(round(1e6 * mean)).normal(0, 0.002, (200, 1))
    return Score(by_seed, mean + drawn + own + np.zeros((1, n_seeds)), N_PATIENTS, 30)


def study(tmp_path: Path, seeds: str = "[0, 1, 2]") -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("[0, 1]", seeds).replace("[rsna-linear-frozen-rehearsal]", "[rsna-linear-frozen-rehearsal, retrieval]"))
    card = reading.read(path)
    equal = {REFERENCE: 640, METHOD: 320}
    costs = {REFERENCE: Cost((1e9,), (0.1,)), METHOD: Cost((2e9,), (0.2,))}
    return Study(card, members(card, equal), costs, equal, Making())


def scored(changes: dict[tuple[str, int, str], Score | None] | None = None) -> Table:
    """The method's task is 10 points above all others, its retrieval alike."""
    given: dict[tuple[str, int, str], Score | None] = {
        (METHOD, 640, TASK): score(0.40),
        (METHOD, 320, TASK): score(0.38),
        (REFERENCE, 320, TASK): score(0.29),
        (REFERENCE, 640, TASK): score(0.30),
        (PLAIN, 640, TASK): score(0.31),
        (MIXED, 640, TASK): score(0.201),
        (START, 0, TASK): replace(score(0.20), by_seed={0: (0.198, 0.2, 0.202)}, unit="runs"),
        ("lovt-phantom-on-25", 640, TASK): score(0.25),
        **{(name, 640, RETRIEVAL): score(0.80) for name in (METHOD, REFERENCE, PLAIN)},
        **{(name, 320, RETRIEVAL): score(0.70) for name in (METHOD, REFERENCE)},
        **{(name, 0, RETRIEVAL): score(0.50) for name in (METHOD, REFERENCE)},
        (MIXED, 640, RETRIEVAL): score(0.501),
    } | (changes or {})
    known = {((name, pairs), measure): one for (name, pairs, measure), one in given.items() if one is not None}
    return Table((TASK, RETRIEVAL), {TASK: "RSNA, Dice", RETRIEVAL: "Retrieval"}, known, {})


def answers(tmp_path, table: Table, **how):
    return {(one.kind, one.about, one.measure): one for one in findings(study(tmp_path, **how), table)}


def test_a_claim_holds_where_the_method_is_surely_higher(tmp_path):
    one = answers(tmp_path, scored())["claim", METHOD, TASK]
    assert one.holds
    assert one.reason == ""
    assert one.compared is not None
    assert one.compared.value == pytest.approx(0.10)
    assert {level.name for level in one.compared.difference.levels} == {"pretraining", "patients"}
    assert answers(tmp_path, scored())["claim at equal compute", METHOD, TASK].compared.value == pytest.approx(0.08)


def test_the_interval_is_split_into_what_was_drawn():
    first, second = score(0.40), score(0.30)
    one = compared(first, second)
    means = 2 * 0.004**2 / 3  # of both, s^2 / k
    runs = 2 * (0.001**2 / 3) / 3
    assert one.sd_runs == pytest.approx(runs**0.5)
    assert one.sd_pretraining == pytest.approx((means - runs) ** 0.5)
    assert one.sd_patients == pytest.approx(np.std(first.resampled[:, 0] - second.resampled[:, 0], ddof=1))


def test_two_pretraining_seeds_test_nothing(tmp_path):
    two = {place: score(one.value, n_seeds=2) for place, one in scored().scores.items()}
    one = answers(tmp_path, Table((TASK, RETRIEVAL), scored().titles, two, {}), seeds="[0, 1]")["claim", METHOD, TASK]
    assert (one.word, one.compared.half_width) == ("not tested", None)
    assert one.reason == "2 pretraining seeds, a sentence about a method needs 3"


WHY = {
    "still learning": ({(METHOD, 640, RETRIEVAL): score(0.51)}, RETRIEVAL, "has hardly learned its pairs"),
    "the reference is ahead, the part is not why": (
        {(METHOD, 640, TASK): score(0.25), (PLAIN, 640, TASK): score(0.24)},
        TASK,
        "not worse with local losses than without",
    ),
    "the reference is ahead": ({(METHOD, 640, TASK): score(0.25)}, TASK, "ahead at this budget and on these images"),
    "the budget": ({(METHOD, 640, TASK): score(0.305), (METHOD, 320, TASK): score(0.1)}, TASK, "still rises, by 20.5 points"),
    "the part": ({(METHOD, 640, TASK): score(0.302)}, TASK, "local losses: no gain is seen from it here either"),
    "chance": (
        {(METHOD, 640, TASK): score(0.303, spread=0.02), (PLAIN, 640, TASK): score(0.1)},
        TASK,
        "points, most of it from pretraining seeds",
    ),
    "a gap": ({(METHOD, 640, TASK): None}, TASK, "a score is missing"),
}


@pytest.mark.parametrize("why", WHY)
def test_what_does_not_hold_has_the_likely_reason(why, tmp_path):
    changes, measure, said = WHY[why]
    one = answers(tmp_path, scored(changes))["claim", METHOD, measure]
    assert not one.holds
    assert said in one.reason


def test_shuffled_pairs_are_compared_with_the_start(tmp_path):
    found = answers(tmp_path, scored())
    assert [found["shuffled", MIXED, measure].word for measure in (TASK, RETRIEVAL)] == ["not told apart"] * 2
    leaked = answers(tmp_path, scored({(MIXED, 640, RETRIEVAL): score(0.8)}))
    assert leaked["shuffled", MIXED, RETRIEVAL].word == "higher"


def test_the_whole_is_the_last_rung(tmp_path):
    assert [(share, one.value) for share, one in rungs(study(tmp_path), scored(), TASK)] == [
        (0.25, pytest.approx(0.25)),
        (1.0, pytest.approx(0.40)),
    ]


def test_both_pages_say_what_holds_what_does_not_and_what_phantoms_cannot_tell(tmp_path):
    asked, table = study(tmp_path), scored()
    blocks = page.blocks_of(asked, table, findings(asked, table))
    html = page.to_html(asked, table, blocks, phantom=True)
    text = page.to_markdown(asked, table, blocks, phantom=True)
    for shown in (html, text):
        plain = shown.replace("\\", "")
        assert "it says nothing about the methods on patients" in plain
        assert "Score against compute" in plain
        assert "1.28" in plain  # TFLOP of the method's 640 pairs of 2 GFLOP
    claims = [line for line in text.splitlines() if "places help" in line]
    assert [line.split(" | ")[-1].split(":")[0].strip(" |") for line in claims] == ["holds", "not held"]
    assert html.count("<svg viewBox") == 4 + 1  # two measures against compute and two ladders; the brand has another
    assert "phantoms" not in page.to_markdown(asked, table, blocks, phantom=False)


def test_a_figure_lies_beside_its_page_under_any_name_of_a_task(tmp_path):
    table = scored()
    scores = {(contender, "../a b"): one for (contender, measure), one in table.scores.items() if measure == TASK}
    named = replace(table, measures=("../a b",), titles={"../a b": "T"}, scores=scores)
    figures = [
        figure for block in (page._compute(study(tmp_path), named), page._ladder(study(tmp_path), named)) for figure in block.figures
    ]
    assert figures
    assert all(re.fullmatch(r"a-b-(compute|ladder)-[0-9a-f]{8}", figure.name) for figure in figures)


def test_both_pages_and_the_table_say_what_the_rows_behind_a_score_say(tmp_path):
    caveats = Caveats({TASK: Contamination.IMAGES}, (TASK,), {(TASK, "one run: no interval"): 3})
    asked, table = study(tmp_path), replace(scored(), caveats=caveats)
    found = findings(asked, table)
    blocks = page.blocks_of(asked, table, found)
    for shown in (page.to_html(asked, table, blocks, phantom=False), page.to_markdown(asked, table, blocks, phantom=False)):
        assert "RSNA, Dice: pretraining saw images of this dataset." in shown
        assert "or a partial release: RSNA, Dice. Never ranked" in shown
        assert "one run: no interval" in shown
    lines = list(csv.DictReader(io.StringIO(page.to_csv(found, table))))
    assert {line["measure"]: line["contamination"] for line in lines} == {TASK: "images", RETRIEVAL: ""}


def test_seeds_that_do_not_fit_into_the_minutes_are_left_out_and_named(tmp_path):
    asked = study(tmp_path)
    expected = running.forecast_s(asked.members, asked.costs, 2)
    # Of each seed: ConVIRT 64 s, and LoVT with its ablation, its rung and its control 128 s each.
    assert expected == pytest.approx(3 * (64 + 4 * 128) / 2)
    for minutes, seeds in ((None, (0, 1, 2)), (expected / 60, (0, 1, 2)), (expected / 61, (0, 1)), (0.1, (0,))):
        card = asked.card.model_copy(update={"budget": asked.card.budget.model_copy(update={"minutes": minutes})})
        assert running.fitting(card, asked.costs, asked.equal, 2).seeds == seeds
    asked.left_out = (2,)
    assert "Pretraining seeds 2 are left out" in page.to_markdown(asked, scored(), [], phantom=False)


def test_a_name_with_markup_stays_text(tmp_path):
    asked = study(tmp_path)
    asked.making.failed["<b>x</b>|y"] = "<script>"
    blocks = page.blocks_of(asked, scored(), findings(asked, scored()))
    assert "<script>" not in page.to_html(asked, scored(), blocks, phantom=False)
    assert "<b>x</b>|y" not in page.to_markdown(asked, scored(), blocks, phantom=False)


def test_a_method_whose_cost_is_not_known_is_named_and_takes_no_claim_of_others_along(tmp_path):
    asked = study(tmp_path)
    del asked.costs[METHOD], asked.equal[METHOD]
    asked.unmeasured = {METHOD: "KeyError: its layer"}
    kinds = [one.kind for one in findings(asked, scored())]
    assert "claim" in kinds
    assert "claim at equal compute" not in kinds
    text = page.to_markdown(asked, scored(), page.blocks_of(asked, scored(), findings(asked, scored())), phantom=False)
    assert f"| {METHOD} | what a pair costs | KeyError: its layer |" in text.replace("\\", "")
    forecast = running._forecast_with({"a": Cost((1.0,), (0.1,)), "b": Cost((1.0,), (0.3,))}, [METHOD])
    assert forecast[METHOD].seconds == (0.3,)
    assert running._forecast_with({}, [METHOD]) == {}
