"""What a study found: each claim beside its reference, each method beside its start, and why what does not hold may not.

Nothing here knows pages. p-values are Holm's within one kind of question: all claims, all starts, all ablations, all controls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark import registry
from benchmark.cards.studies import RETRIEVAL, START
from benchmark.statistics.families import holm_by_family
from benchmark.statistics.verdict import Verdict, verdict
from benchmark.study.members import rung_name, shuffled_name
from benchmark.study.running import Study
from benchmark.study.scores import Compared, Score, Table, compared

Kind = Literal["claim", "claim at equal compute", "start", "ablation", "shuffled"]
CHANCE = 0.5  # of a percentile
LEARNED = 0.55  # below it, a method has hardly learned to tell its pairs apart


@dataclass(frozen=True)
class Finding:
    """One question of a study and its answer.

    Attributes:
        about: the method, or its member.
        against: what it is compared with.
        says: the claim, or the part that is left out; empty of others.
        pairs, against_pairs: shown until then.
        first, second: None where one is missing.
        compared: None where a score is missing.
        adjusted_p: after Holm's correction among its kind.
        word: of the difference, as on every page.
        reason: why a claim may not hold; empty where it holds.
    """

    kind: Kind
    about: str
    against: str
    says: str
    measure: str
    pairs: int
    against_pairs: int
    first: Score | None
    second: Score | None
    compared: Compared | None
    adjusted_p: float | None = None
    word: Verdict = "not tested"
    reason: str = ""

    @property
    def holds(self) -> bool:
        return self.word == "higher"


def findings(study: Study, table: Table) -> list[Finding]:
    """All questions that the study's card asks, in its order."""
    asked = [*_claims(study, table), *_starts(study, table), *_ablations(study, table), *_shuffled(study, table)]
    p = {number: one.compared.p_value if one.compared is not None else None for number, one in enumerate(asked)}
    adjusted = holm_by_family(p, lambda number: asked[number].kind)
    found = []
    for number, one in enumerate(asked):
        value = 0.0 if one.compared is None else one.compared.value
        found.append(replace(one, adjusted_p=adjusted[number], word=verdict(value, adjusted[number])))
    return [replace(one, reason=_reason(one, found, study, table)) for one in found]


def _claims(study: Study, table: Table) -> Iterable[Finding]:
    end = _ends(study)
    for claim in study.card.claims:
        for measure in claim.measures:
            yield _finding("claim", table, claim.recipe, claim.against, claim.says, measure, end[claim.recipe], end[claim.against])
            if {claim.recipe, claim.against} <= study.equal.keys():
                at = study.equal[claim.recipe], study.equal[claim.against]
                yield _finding("claim at equal compute", table, claim.recipe, claim.against, claim.says, measure, *at)


def _starts(study: Study, table: Table) -> Iterable[Finding]:
    end = _ends(study)
    for name in study.card.recipes:
        for measure in _with_start(table):
            yield _finding("start", table, name, START, "", measure, end[name], 0)


def _ablations(study: Study, table: Table) -> Iterable[Finding]:
    end = _ends(study)
    for one in study.card.ablations:
        for measure in table.measures:
            yield _finding("ablation", table, one.recipe, one.without, one.part, measure, end[one.recipe], end[one.without])


def _shuffled(study: Study, table: Table) -> Iterable[Finding]:
    end = _ends(study)
    for name in study.card.shuffled:
        for measure in _with_start(table):
            yield _finding("shuffled", table, shuffled_name(name), START, "", measure, end[shuffled_name(name)], 0)


def _finding(kind: Kind, table: Table, about: str, against: str, says: str, measure: str, pairs: int, against_pairs: int) -> Finding:
    first = table.get(about, pairs, measure)
    second = table.get(_start_of(about, measure) if against == START else against, against_pairs, measure)
    both = None if first is None or second is None else compared(first, second)
    return Finding(kind, about, against, says, measure, pairs, against_pairs, first, second, both)


def _with_start(table: Table) -> list[str]:
    """Measures of which a start has a score: what nobody trained has no text side that tasks could ask in words."""
    return [measure for measure in table.measures if measure == RETRIEVAL or registry.task(measure).words is None]


def _start_of(about: str, measure: str) -> str:
    """Encoders of one tower and seed begin alike; what retrieves also has layers of the method's own."""
    return about.removesuffix(shuffled_name("")) if measure == RETRIEVAL else START


def _reason(one: Finding, found: Sequence[Finding], study: Study, table: Table) -> str:
    """The likeliest reason that the study's own numbers give for a claim that is not seen to hold."""
    if one.kind != "claim" or one.holds:
        return ""
    if one.compared is None:
        return "a score is missing"
    if one.compared.difference is None:
        return one.compared.untested.removeprefix("not tested: ")
    if (seen := table.get(one.about, one.pairs, RETRIEVAL)) is not None and seen.value < LEARNED:
        return f"the method has hardly learned its pairs: held-out images rank their own report at {100 * seen.value:.0f} %, chance is 50 %"
    if one.word == "lower":
        part = _part(one, found)
        if part is not None and part.compared is not None and part.compared.value >= 0:
            return f"the reference is ahead, and the method is not worse with {part.says} than without: its other terms fall short here"
        return "the reference is ahead at this budget and on these images"
    if (rise := _late_rise(one, study, table)) is not None:
        return f"the method's score still rises, by {100 * rise:.1f} points since its last checkpoint: the budget may be too small"
    part = _part(one, found)
    if part is not None and part.word != "higher":
        return f"{part.says}: no gain is seen from it here either"
    half = one.compared.half_width
    widest = _widest(one.compared)
    return f"the interval is ± {100 * half:.1f} points, most of it from {widest}" if half is not None else one.compared.untested


def _part(one: Finding, found: Sequence[Finding]) -> Finding | None:
    return next((each for each in found if each.kind == "ablation" and (each.about, each.measure) == (one.about, one.measure)), None)


def _late_rise(one: Finding, study: Study, table: Table) -> float | None:
    """Gain since the last checkpoint before the end, where it is more than the interval's half width."""
    member = next(each for each in study.members if each.name == one.about)
    before = [table.get(one.about, pairs, one.measure) for pairs in member.keeps[1:-1]]
    if not before or before[-1] is None or one.first is None or one.compared is None:
        return None
    rise = one.first.value - before[-1].value
    return rise if one.compared.half_width is not None and rise > one.compared.half_width else None


def _widest(one: Compared) -> str:
    parts = {"pretraining seeds": one.sd_pretraining, "run seeds": one.sd_runs, "test patients": one.sd_patients}
    return max(parts, key=lambda name: parts[name] or 0.0)


def _ends(study: Study) -> dict[str, int]:
    """Name of a member -> pairs at its end."""
    return {member.name: member.keeps[-1] for member in study.members}


def rungs(study: Study, table: Table, measure: str) -> list[tuple[float, Score | None]]:
    """Share of the patients -> score of the ladder's method; the whole last."""
    ladder = study.card.ladder
    if ladder is None:
        return []
    end = _ends(study)
    names = [(share, rung_name(ladder.recipe, share)) for share in ladder.shares] + [(1.0, ladder.recipe)]
    return [(share, table.get(name, end[name], measure)) for share, name in names]
