"""The report of a study: what holds and what does not, score against compute, the ladder, ablations, and what the intervals are made of.

One list of blocks is written as HTML and as Markdown; numbers are those of `findings` and `scores`.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from markupsafe import Markup

from benchmark.cards import DISCLAIMER, Contamination
from benchmark.cards.studies import RETRIEVAL, START
from benchmark.report import addresses, escape, line_figures, numbers
from benchmark.report.line_figures import Series
from benchmark.report.pages import environment, write_page
from benchmark.statistics.difference import cells
from benchmark.statistics.levels import FEWEST_CHECKPOINTS
from benchmark.study import terms
from benchmark.study.caveats import notices
from benchmark.study.findings import Finding, findings, rungs
from benchmark.study.running import RESULTS, Study
from benchmark.study.scores import Score, Table, table

STUDY = "study"  # folder of the report, in the study's
PHANTOM = (
    "The images and reports are generated. What holds here shows that an objective learns what it is made for on pairs where that can be "
    "learned; it says nothing about the methods on patients."
)


@dataclass(frozen=True)
class Figure:
    """A plot of the page; beside Markdown it is a file of its own, `<name>.svg`."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Block:
    """A part of the page: sentences, figures, a table.

    Attributes:
        words: columns that hold words; all others hold numbers.
    """

    heading: str
    sentences: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()
    figures: tuple[Figure, ...] = ()
    words: frozenset[int] = field(default_factory=frozenset)

    def is_number(self, column: int) -> bool:
        return column not in self.words


def write(study: Study, out: Path) -> Path:
    """Writes `<out>/study/index.html`, `study.md` with its figures beside it, and `study.csv`; returns the HTML file.

    Figures of an earlier report go: a study that lost a measure leaves none behind.
    """
    scores = table(study)
    found = findings(study, scores)
    blocks = blocks_of(study, scores, found)
    is_phantom = any(record.phantom for one in study.evaluations for record in one.results)
    folder = out / STUDY
    for earlier in folder.glob("*.svg"):
        earlier.unlink()
    write_page(folder / "study.md", to_markdown(study, scores, blocks, phantom=is_phantom))
    for figure in itertools.chain.from_iterable(block.figures for block in blocks):
        write_page(folder / f"{figure.name}.svg", line_figures.as_file(figure.svg))
    write_page(folder / "study.csv", to_csv(found, scores))
    return write_page(folder / "index.html", to_html(study, scores, blocks, phantom=is_phantom))


def blocks_of(study: Study, scores: Table, found: Sequence[Finding]) -> list[Block]:
    """All parts of the page that have something to say."""
    blocks = [
        _claims(found, scores),
        _starts(found, scores),
        _compute(study, scores),
        _ladder(study, scores),
        _ablations(found, scores),
        _shuffled(found, scores),
        _levels(found, scores),
        _budget(study),
        _missing(study, scores),
        _warnings(scores),
    ]
    return [block for block in blocks if block is not None]


def to_html(study: Study, scores: Table, blocks: Sequence[Block], *, phantom: bool) -> str:
    return (
        environment()
        .get_template("study.html.j2")
        .render(
            title=study.card.title,
            lead=_lead(study),
            notices=_notices(study, scores, phantom=phantom),
            blocks=[replace(block, figures=tuple(replace(one, svg=Markup(one.svg)) for one in block.figures)) for block in blocks],
            phantom=phantom,
            limited=bool(scores.caveats.limited),
        )
    )


def to_markdown(study: Study, scores: Table, blocks: Iterable[Block], *, phantom: bool) -> str:
    lines = [f"# {escape.markdown(study.card.title)}", "", f"> {DISCLAIMER}", "", escape.markdown(_lead(study)), ""]
    lines += [text for notice in _notices(study, scores, phantom=phantom) for text in (f"**{escape.markdown(notice)}**", "")]
    for block in blocks:
        lines += [f"## {escape.markdown(block.heading)}", ""]
        lines += [text for sentence in block.sentences for text in (escape.markdown(sentence), "")]
        lines += [text for one in block.figures for text in (f"![{escape.markdown(one.caption)}]({one.name}.svg)", "")]
        if block.lines:
            lines += [_bar(block.heads), "|" + "".join("--:|" if block.is_number(i) else ":--|" for i in range(len(block.heads)))]
            lines += [_bar(line) for line in block.lines]
            lines.append("")
    return "\n".join(lines)


def to_csv(found: Iterable[Finding], scores: Table) -> str:
    """A line for each comparison; fractions. `contamination` is the worst of the task's rows, of retrieval there is none."""
    columns = ("question", "about", "against", "says", "measure", "pairs", "pairs_of_other", "score", "score_of_other", "difference")
    more = ("half_width_95", "p", "p_adjusted", "word", "sd_pretraining", "sd_runs", "sd_patients", "reason", "contamination")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*columns, *more))
    for one in found:
        c = one.compared
        first, second = (None if s is None else s.value for s in (one.first, one.second))
        of = (None,) * 3 if c is None else (c.value, c.half_width, c.p_value)
        parts = (None,) * 3 if c is None else (c.sd_pretraining, c.sd_runs, c.sd_patients)
        told = (one.kind, one.about, one.against, one.says, one.measure, one.pairs, one.against_pairs, first, second, *of)
        seen = None if one.measure == RETRIEVAL else scores.caveats.seen.get(one.measure, Contamination.NONE).value
        line = (*told, one.adjusted_p, one.word, *parts, one.reason, seen)
        writer.writerow([escape.csv_cell("" if value is None else value) for value in line])
    return buffer.getvalue()


def _claims(found: Sequence[Finding], scores: Table) -> Block | None:
    claims = [one for one in found if one.kind == "claim"]
    if not claims:
        return None
    equal = {(one.about, one.against, one.measure): one for one in found if one.kind == "claim at equal compute"}
    lines = []
    for one in claims:
        other = equal.get((one.about, one.against, one.measure))
        what = f"{one.says} ({scores.titles[one.measure]})"
        answer = "holds" if one.holds else "not tested" if one.word == "not tested" else "not held"
        why = f"{answer}: {one.reason}" if one.reason else answer
        at_compute = (numbers.DASH, numbers.DASH) if other is None else (_difference(other), _p(other))
        lines.append((one.about, one.against, what, _score(one.first), _score(one.second), _difference(one), _p(one), *at_compute, why))
    said = (
        "Each method beside what it was published against, on what it was published for. Differences are in points with 95 % "
        "intervals over pretraining seeds, run seeds and test patients; p is Holm's over all claims. A claim holds where the method is "
        "higher with p of at most 0.05. A reason is the likeliest that the study's own numbers give.",
    )
    heads = ("Method", "Against", "Claim", "Method's score", "Other's score", "Equal pairs", "p", "Equal compute", "p", "Answer")
    return Block("What holds of the claims, and what does not", said, heads, tuple(lines), words=frozenset({0, 1, 2, 9}))


def _starts(found: Sequence[Finding], scores: Table) -> Block | None:
    starts = [one for one in found if one.kind == "start"]
    heads = ("Method", "Measure", "End", "Start", "Gain", "p", "Gain is")
    lines = tuple((one.about, scores.titles[one.measure], _score(one.first), _score(one.second), *_told(one)) for one in starts)
    said = (
        "The start is the same encoder before its first step: untrained, each run from a network of its own, or the library's weights "
        "where the recipes begin from them. A start that is untrained finds reports at 50 % by chance.",
    )
    return Block("Each method beside its own start", said, heads, lines, words=frozenset({0, 1, 6})) if starts else None


def _compute(study: Study, scores: Table) -> Block | None:
    lines, figures = [], []
    for measure in scores.measures:
        series = []
        for name in study.costs:
            member = next(one for one in study.members if one.name == name)
            points = []
            for pairs in member.keeps:
                at = START if pairs == 0 and measure != RETRIEVAL else name
                score = scores.get(at, pairs, measure)
                if score is None:
                    continue
                tera = study.costs[name].flops_until(pairs, member.keeps[-1]) / 1e12
                half = half_width(score)
                points.append((tera, 100 * score.value, None if half is None else 100 * half))
                marks = {"end": member.keeps[-1], "equal compute": study.equal.get(name)}
                why = ", ".join(mark for mark, at_pairs in marks.items() if at_pairs == pairs)
                lines.append((scores.titles[measure], name, f"{pairs:,}", f"{tera:,.3g}", _score(score), why))
            series.append(Series(name, tuple(points)))
        title = scores.titles[measure]
        figure = line_figures.lines(series, "compute (TFLOP)", "score × 100", f"{title} against compute; the table holds the same numbers.")
        if figure:
            figures.append(Figure(addresses.name_of(f"{measure}-compute"), f"{title}: score against compute.", figure))
    heads = ("Measure", "Method", "Pairs", "TFLOP", "Score × 100", "")
    counted = "Compute is counted on the real network, forward and backward, without the optimiser."
    said = (f"{terms.of_checkpoints(study.members)} {counted}",)
    return Block("Score against compute", said, heads, tuple(lines), tuple(figures), frozenset({0, 1, 5})) if lines else None


def _ladder(study: Study, scores: Table) -> Block | None:
    if study.card.ladder is None:
        return None
    lines, figures = [], []
    for measure in scores.measures:
        steps = [(share, score) for share, score in rungs(study, scores, measure) if score is not None]
        lines += [(scores.titles[measure], f"{100 * share:g}", _score(score)) for share, score in steps]
        halves = [half_width(score) for _, score in steps]
        points = tuple(
            (100 * share, 100 * score.value, None if half is None else 100 * half)
            for (share, score), half in zip(steps, halves, strict=True)
        )
        title = f"{scores.titles[measure]}: score against the share of patients."
        if figure := line_figures.lines([Series(study.card.ladder.recipe, points)], "patients (%)", "score × 100", title):
            figures.append(Figure(addresses.name_of(f"{measure}-ladder"), title, figure))
    said = (f"{study.card.ladder.recipe} on shares of the patients, at the same number of pairs shown.",)
    heads = ("Measure", "Patients (%)", "Score × 100")
    return Block("Ladder of data sizes", said, heads, tuple(lines), tuple(figures), frozenset({0}))


def _ablations(found: Sequence[Finding], scores: Table) -> Block | None:
    mine = [one for one in found if one.kind == "ablation"]
    heads = ("Method", "Without", "Measure", "Score with", "Score without", "Difference", "p", "With is")
    lines = tuple((one.about, one.says, scores.titles[one.measure], _score(one.first), _score(one.second), *_told(one)) for one in mine)
    return Block("Each method without its own part", (), heads, lines, words=frozenset({0, 1, 2, 7})) if mine else None


def _shuffled(found: Sequence[Finding], scores: Table) -> Block | None:
    mine = [one for one in found if one.kind == "shuffled"]
    heads = ("Trained on shuffled pairs", "Measure", "End", "Start", "Gain", "p", "Gain is")
    lines = tuple((one.about, scores.titles[one.measure], _score(one.first), _score(one.second), *_told(one)) for one in mine)
    said = (
        "Every image beside another one's report: nothing of a finding can be learned from such a pair. A gain on retrieval would be a "
        "fault of the study. One on tasks is what any training on these images gives, without a word about them.",
    )
    return Block("Control: shuffled pairs", said, heads, lines, words=frozenset({0, 1, 6})) if mine else None


def _levels(found: Sequence[Finding], scores: Table) -> Block | None:
    known = [one for one in found if one.kind == "claim" and one.compared is not None and one.compared.difference is not None]
    if not known:
        return None
    lines = []
    for one in known:
        c = one.compared
        assert c is not None
        parts = [numbers.DASH if sd is None else f"{100 * sd:.2f}" for sd in (c.sd_pretraining, c.sd_runs, c.sd_patients)]
        lines.append((one.about, one.against, scores.titles[one.measure], *parts))
    said = ("Standard deviations of the difference, in points, by what was drawn. Retrieval trains nothing more: it has no run seeds.",)
    heads = ("Method", "Against", "Measure", "Pretraining seed", "Run seed", "Patients")
    return Block("What the intervals are made of", said, heads, tuple(lines), words=frozenset({0, 1, 2}))


def _budget(study: Study) -> Block:
    lines = []
    for name, cost in study.costs.items():
        end = next(one.keeps[-1] for one in study.members if one.name == name)
        total = cost.flops_until(end, end)
        at = study.equal.get(name)
        lines.append(
            (
                name,
                f"{end:,}",
                f"{total / end / 1e9:.3g}",
                f"{total / 1e12:,.3g}",
                numbers.DASH if at is None else f"{at:,}",
                f"{1000 * cost.seconds_until(end, end) / end:.3g}",
            )
        )
    heads = ("Method", "Pairs", "GFLOP a pair", "TFLOP in all", "Pairs at equal compute", "ms a pair, measured")
    said = ("Equal pairs are not equal compute: both are compared. Equal compute is that of the cheapest method in all.",)
    return Block("Budget", said, heads, tuple(lines), words=frozenset({0}))


def _missing(study: Study, scores: Table) -> Block | None:
    lines = [(name, "what a pair costs", why) for name, why in study.unmeasured.items()]
    lines += [(label, "pretraining", why) for label, why in study.making.failed.items()]
    lines += [
        (f"{name}, {pairs:,} pairs", scores.titles.get(measure, measure), why) for ((name, pairs), measure), why in scores.missing.items()
    ]
    lines += [(problem.what, "evaluation", problem.sentence) for one in study.evaluations for problem in one.planned.problems]
    said = ("What failed stopped nothing else. The same command tries it again.",)
    return Block("What is missing", said, ("What", "Where", "Why"), tuple(lines), words=frozenset({0, 1, 2})) if lines else None


def _warnings(scores: Table) -> Block | None:
    lines = tuple((scores.titles[task], warning, f"{n:,}") for (task, warning), n in scores.caveats.warnings.items())
    said = ("A row is a backbone on a task. Its own warnings, as on every page of its records.",)
    return Block("What rows warn of", said, ("Task", "Warning", "Rows"), lines, words=frozenset({0, 1})) if lines else None


def _notices(study: Study, scores: Table, *, phantom: bool) -> list[str]:
    found = [*([PHANTOM] if phantom else []), *notices(scores.caveats, scores.titles)]
    if unequal := terms.unequal_groups(study.members):
        found.append(unequal)
    if study.left_out:
        seeds = ", ".join(map(str, study.left_out))
        found.append(
            f"Pretraining seeds {seeds} are left out: by its forecast the study would take more than its minutes for all pretrainings."
        )
    if len(study.card.seeds) < FEWEST_CHECKPOINTS:
        found.append(f"{_seeds(study)}: nothing is tested. A sentence about a method needs {FEWEST_CHECKPOINTS}.")
    return found


def _lead(study: Study) -> str:
    card, judged = study.card, study.card.evaluation
    by = ", ".join([*([f"suite {judged.suite}"] if judged.suite else []), *judged.tasks])
    seeds, runs = _seeds(study), f"{judged.runs} run{'s' * (judged.runs != 1)}"
    return (
        f"{len(card.recipes)} methods on {card.budget.pairs:,} pairs each, from {seeds}, with equal pairs, encoders and augmentation; "
        f"judged by {by} with {runs} each. Scores are times 100, and a point is a hundredth. "
        f"The records lie in {RESULTS}/ and read like any others: lobe report --out {RESULTS}."
    )


def _seeds(study: Study) -> str:
    n = len(study.card.seeds)
    return f"{n} pretraining seed{'s' * (n != 1)}"


def half_width(score: Score) -> float | None:
    """Of a score's own 95 % interval; None with fewer pretraining seeds than a sentence about a method needs."""
    return None if score.too_few else cells([score.scores])[0].half_width


def _score(score: Score | None) -> str:
    return numbers.DASH if score is None else numbers.percent(score.value, half_width(score))


def _told(one: Finding) -> tuple[str, str, str]:
    return _difference(one), _p(one), one.word


def _difference(one: Finding) -> str:
    if one.compared is None:
        return numbers.DASH
    half = one.compared.half_width
    return numbers.signed_points(100 * one.compared.value, None if half is None else 100 * half)


def _p(one: Finding) -> str:
    return numbers.DASH if one.adjusted_p is None else numbers.p_value(one.adjusted_p)


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(escape.markdown(cell) for cell in cells) + " |"
