"""Scores are compared on the patients that both were measured on; where there are none, without patients, and never not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.cards.studies import RETRIEVAL
from benchmark.statistics.levels import CHECKPOINTS, PATIENTS
from benchmark.study import page
from benchmark.study.findings import findings
from benchmark.study.making import MadeMember
from benchmark.study.members import Member
from benchmark.study.scores import Score, Table, _of_shares, compared
from tests.study.test_findings import METHOD, REFERENCE, score, scored, study


def levels(one: Score, other: Score) -> set[str]:
    found = compared(one, other).difference
    assert found is not None
    return {level.name for level in found.levels}


def test_scores_on_the_same_patients_are_compared_over_patients_and_others_without():
    one, other = (replace(score(value), test="these") for value in (0.4, 0.3))
    assert levels(one, other) == {CHECKPOINTS, PATIENTS}
    assert levels(one, replace(other, test="others")) == {CHECKPOINTS}


def of_more(one: Score) -> Score:
    """The score as it is measured on twice as many patients."""
    return replace(one, n_clusters=120, test="more of them")


def test_a_page_is_written_where_methods_held_out_other_patients(tmp_path: Path):
    asked, table = study(tmp_path), scored()
    place = ((METHOD, 640), RETRIEVAL)
    table = Table(table.measures, table.titles, {**table.scores, place: of_more(table.scores[place])}, {})
    found = findings(asked, table)
    assert "places help" in page.to_markdown(asked, table, page.blocks_of(asked, table, found), phantom=False)
    (claim,) = (one for one in found if (one.kind, one.measure) == ("claim", RETRIEVAL))
    assert claim.against == REFERENCE
    assert claim.compared is not None
    assert claim.compared.sd_patients is None


def shares_of(seed: int, ids: str) -> tuple[list[float], MadeMember]:
    member = Member("method", registry.recipe(METHOD), seed, (640,))
    shares = np.random.default_rng(seed).random(6).tolist()
    return shares, MadeMember(member, {}, {}, [0, 0, 1, 2, 3, 4], was_there=False, ids=ids)


@pytest.mark.parametrize(("ids", "resampled"), [(("a", "a"), True), (("a", "b"), False)], ids=["the same", "others"])
def test_seeds_that_held_out_other_images_are_not_resampled_together_though_their_patients_have_the_same_numbers(ids, resampled):
    found = _of_shares({seed: shares_of(seed, one) for seed, one in enumerate(ids)})
    assert (found.resampled is not None) == resampled
    assert found.test == ("a" if resampled else "")
