"""A paper is added by cards and a file of numbers: a made-up one, in a folder of the user's own, without a line of Python."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from scipy import stats

from benchmark import registry, task_rules
from benchmark.cards import PaperCard
from benchmark.errors import CardError
from benchmark.report import published, reproduce_pages
from benchmark.report.reproduce import reproduce
from benchmark.report.row_warnings import CUSTOM

TASKS = """
suites:
  - { name: mine, title: M, description: Made up., tasks: [rsna-linear-frozen-10-mine], default_protocol: corrected }

tasks:
  - id: rsna-linear-frozen-10-mine
    version: 1
    title: Mine
    dataset: rsna
    head: linear
    encoder: frozen
    fraction: 0.1
    target: masks
    recipe: { batch_size: 8, learning_rate: 0.01, max_epochs: 5, patience: 2 }
    select: opacity_dice
    report: opacity_dice
    protocols: [corrected]
    published: [mine, rsna-linear-frozen-10-mine]
"""

PAPERS = """
papers:
  - name: mine
    title: Made Up (2031)
    citation: "A. Nobody: Nothing. Nowhere 2031"
    suite: mine
    protocol: corrected
    unknown: [Nothing is known of it.]
    metrics: { Dice score: { reported: [opacity_dice], margin: 3.0 } }
    methods:
      - { method: First, model: resnet50, backbones: ["first-*"] }
      - { method: Second, model: resnet50, backbones: [second] }
    tables:
      - { title: Table 1, meaning: mean ± standard deviation of 3 runs, compared: true, runs: 3 }
"""

NUMBERS = [  # table, task id, method, metric, value, spread, unit, verified
    ("Table 1", "rsna-linear-frozen-10-mine", "First", "Dice score", "31.00", "1.0", "percent", "yes"),
    ("Table 1", "rsna-linear-frozen-10-mine", "Second", "Dice score", "20.0", "1.0", "percent", "yes"),
    ("Table 1", "", "First", "AUROC", "88.8", "", "percent", "no"),
    ("Table 2", "", "First", "rank", "1", "", "rank", "yes"),
]


@pytest.fixture
def own(tmp_path: Path):
    """Writes the user's folder and reads it: `own(numbers=..., papers=...)`; forgotten afterwards."""
    before = list(registry._included)

    def include(numbers: list[tuple] = NUMBERS, papers: str = PAPERS) -> Path:
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "mine.yaml").write_text(TASKS, encoding="utf-8")
        (tmp_path / "results" / "published").mkdir(parents=True)
        (tmp_path / "results" / "papers.yaml").write_text(papers, encoding="utf-8")
        with (tmp_path / "results" / "published" / "mine.csv").open("w", encoding="utf-8", newline="") as handle:
            lines = csv.DictWriter(handle, published.COLUMNS, restval="")
            lines.writeheader()
            keys = ("table", "task_id", "method", "metric", "value", "spread", "unit", "verified")
            for number in numbers:
                lines.writerow(dict(zip(keys, number, strict=True)) | {"paper": "mine", "task": "segmentation", "source": "made up"})
        registry.include(tmp_path)
        return tmp_path

    yield include
    registry._included[:] = before
    registry.forget()


@pytest.fixture
def measured(make):
    """Three runs of the made-up task by a backbone of that name, on the published images: mean 31, standard deviation 1."""

    def runs(backbone: str, **options):
        found = make.runs([0.30, 0.31, 0.32], task="rsna-linear-frozen-10", backbone=backbone, digest=backbone.encode().hex(), **options)
        labels = [r.job.labels.model_copy(update={"task": "rsna-linear-frozen-10-mine", "custom": ("task",)}) for r in found]
        return [r.model_copy(update={"job": r.job.model_copy(update={"labels": one})}) for r, one in zip(found, labels, strict=True)]

    return runs


def test_a_made_up_paper_is_compared_like_any_other(own, measured):
    own()
    reproduction = reproduce(
        "mine", [r for name in ("first-7", "Second", "third") for r in measured(name, protocol="corrected", order_seed=7)]
    )
    first, second = (cell for cell in reproduction.tables[0].cells if cell.compared)
    # Both sides: variance 1/3 with 2 degrees of freedom each, 2/3 with 4 together.
    assert first.difference.half_width == pytest.approx(stats.t.ppf(0.975, 4) * (2 / 3) ** 0.5)
    assert [cell.difference.value for cell in (first, second)] == pytest.approx([0.0, 11.0])
    assert [cell.verdict for cell in (first, second)] == ["undecided", "different"]  # a lower bound proves no equivalence
    assert [cell.lower_bound for cell in (first, second)] == [True, True]
    assert [row.backbone for row in reproduction.others] == ["third"]
    tables = [(table.title, len(table.cells), table.is_compared) for table in reproduction.tables]
    assert tables == [("Table 1", 3, True), ("Table 2", 1, False)]


def test_only_the_protocol_that_its_card_names_is_compared(own, measured):
    own()
    reproduction = reproduce("mine", measured("second"))
    assert {one.reason for one in reproduction.refused} == {"protocol 'published'; only 'corrected' repeats what the paper did"}
    assert not reproduction.tables[0].measured_cells()


def test_such_a_paper_is_marked_custom_wherever_it_is_shown(own, measured):
    own()
    assert registry.is_custom("mine", "papers")
    assert ("papers", "mine") in registry.custom_cards()
    assert not registry.is_custom("lovt", "papers")
    reproduction = reproduce("mine", measured("second", protocol="corrected", order_seed=7))
    said = CUSTOM.format("paper")
    assert said in reproduce_pages.to_markdown(reproduction)
    assert said.replace("'", "&#39;") in reproduce_pages.to_html(reproduction)
    assert reproduce_pages.to_dict(reproduction)["custom"]
    (line,) = [li for li in csv.DictReader(io.StringIO(reproduce_pages.to_csv(reproduction))) if li["measured"]]
    assert (line["paper"], line["method"], line["verdict"]) == ("mine", "Second", "different")
    assert said not in reproduce_pages.to_markdown(reproduce("lovt"))


def test_the_command_takes_such_a_paper_and_says_whose_it_is(own, lobe):
    folder = own()

    def printed(*command: str) -> str:
        registry._included.clear()  # each call is a process of its own
        registry.forget()
        code, text, err = lobe("--include", folder, *command)
        assert (code, err) == (0, "")
        return text

    document = json.loads(printed("reproduce", "mine", "--json"))
    assert (document["custom"], document["unknown"]) == (True, ["Nothing is known of it."])
    text = printed("reproduce", "mine")
    assert all(words in text for words in ("31.00 ± 1.0", "A. Nobody", CUSTOM.format("paper")))
    rows = {row["name"]: row["custom"] for row in json.loads(printed("list", "papers", "--json"))}
    assert (rows["mine"], rows["lovt"]) == (True, False)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([("Table 1", "rsna-linear-frozen-10-mine", "First", "Dice score", "31.0", "", "percent", "yes")], "spread is not known"),
        ([("Table 1", "rsna-linear-frozen-10-mine", "First", "Dice score", "31.0", "1.0", "percent", "no")], "nobody read the published"),
        ([("Table 1", "rsna-linear-frozen-10-mine", "First", "Dice score", "", "", "percent", "yes")], "not in per cent"),
        ([("Table 1", "rsna-linear-frozen-10-mine", "First", "Dice score", "0.31", "", "fraction", "yes")], "not in per cent"),
    ],
)
def test_a_number_that_is_no_target_says_why(own, measured, numbers, said):
    own(numbers=[*numbers, NUMBERS[1]])
    reproduction = reproduce("mine", measured("first-7", protocol="corrected", order_seed=7))
    cell = reproduction.tables[0].cells[0]
    assert said in cell.why_not
    assert cell.verdict in (None, "undecided")
    assert said in reproduce_pages.to_markdown(reproduction)


def test_two_metrics_of_a_task_are_two_columns_and_one_of_them_is_compared(own, measured):
    line = ("Table 1", "rsna-linear-frozen-10-mine", "First", "IoU", "18.0", "1.0", "percent", "yes")
    own(numbers=[*NUMBERS, line])
    reproduction = reproduce("mine", measured("first-7", protocol="corrected", order_seed=7))
    table = reproduction.tables[0]
    assert table.printed.grid.titles == ["Dice score", "AUROC", "IoU"]
    assert [cell.why_not for cell in table.measured_cells()] == ["", "measured opacity_dice, published IoU"]
    assert "| Second | 20.0 ± 1.0 | – | – |" in reproduce_pages.to_markdown(reproduction)
    assert r"Second & 20.0 $\pm$ 1.0 & -- & --" in reproduce_pages.to_latex(reproduction)


@pytest.mark.parametrize(
    ("numbers", "papers", "said"),
    [
        (NUMBERS, PAPERS.replace("title: Table 1", "title: Table 9"), "no line is of the table 'Table 9'"),
        (NUMBERS, PAPERS.replace("method: Second", "method: Secnd"), "no compared line is of method 'Secnd'"),
        (NUMBERS, PAPERS.replace("Dice score:", "Dice:"), "no compared line has the metric 'Dice'"),
        (NUMBERS, PAPERS.replace("[opacity_dice]", "[opacity_dic]"), "'Dice score' is opacity_dic, but its tasks report opacity_dice"),
        ([("Table 1", "rsna-lin", *NUMBERS[0][2:]), *NUMBERS], PAPERS, "task_id is 'rsna-lin', and there is no such task"),
        ([NUMBERS[0], *NUMBERS], PAPERS, "First, rsna-linear-frozen-10-mine, Dice score stands 2 times in 'Table 1'"),
    ],
    ids=["table", "method", "metric", "reported", "task", "twice"],
)
def test_a_card_that_contradicts_its_numbers_is_refused(own, numbers, papers, said):
    own(numbers=numbers, papers=papers)
    with pytest.raises(CardError) as caught:
        reproduce("mine")
    assert said in str(caught.value)
    assert "mine.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("papers", "said"),
    [
        (PAPERS.replace("suite: mine", "suite: mien"), "`suite` names 'mien', and there is no such suite. Did you mean mine"),
        (PAPERS.replace("protocol: corrected", "protocol: corected"), "`protocol` names 'corected'"),
        (PAPERS.replace("compared: true, ", ""), "no table is `compared: true`"),
        (PAPERS + PAPERS[PAPERS.index("      - { title: Table 1") :], "`tables` has ('Table 1', '') twice"),
    ],
    ids=["suite", "protocol", "nothing-compared", "table-twice"],
)
def test_a_card_that_cannot_be_is_refused_when_it_is_included(own, papers, said):
    own(papers=papers)
    with pytest.raises(CardError) as caught:
        task_rules.require_included()
    assert said in str(caught.value)
    assert "papers.yaml: paper mine" in str(caught.value)


def test_a_misspelt_key_names_file_and_card(own):
    own(papers=PAPERS.replace("citation:", "citaton:"))
    with pytest.raises(CardError, match=r"papers.yaml: card 'mine', key 'citation'"):
        registry.papers()


def test_the_example_in_the_documentation_is_a_card():
    page = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
    (example,) = [block for block in page.read_text(encoding="utf-8").split("```") if block.startswith("yaml\npapers:")]
    (written,) = yaml.safe_load(example.removeprefix("yaml"))["papers"]
    card = PaperCard.model_validate(written)
    assert card.tables[0].compared
    assert set(written) == set(PaperCard.model_fields) - {"shortened"}


def test_missing_numbers_are_asked_for_with_their_columns(own):
    (own() / "results" / "published" / "mine.csv").unlink()
    with pytest.raises(CardError, match=r"Paper mine: .*mine.csv is missing.*task_id"):
        reproduce("mine")
