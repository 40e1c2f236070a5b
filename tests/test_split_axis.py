"""The split as an axis: --split and --splits from the command to the record, the page and the comparison with a paper."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from benchmark.api import Request, plan_jobs
from benchmark.errors import LobeError, UsageError
from benchmark.readers.base import open_reader
from benchmark.readers.kit.generated import PHANTOM_REPORTS
from benchmark.readers.rsna import MAPPING
from benchmark.registry import dataset
from benchmark.report import tables
from benchmark.report.rows import rows_of
from benchmark.store import Store

LINEAR = "rsna-linear-frozen-100"


@pytest.fixture
def rsna(corpora: Path, tmp_path: Path) -> Path:
    """A private RSNA phantom with a mapping to as many patients as it says, dealt out in turn, so that the published rule leaks."""
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    reader = open_reader(dataset("rsna"), tmp_path / "data" / "rsna")
    n_patients = reader.phantom["counts"]["patients"]
    entries = [{"subset_img_id": i, "img_id": f"{n % n_patients:08d}_{n:03d}.png"} for n, i in enumerate(reader.ids)]
    (reader.root / MAPPING).write_text(json.dumps(entries))
    return tmp_path / "data"


@pytest.fixture
def anonymous(corpora: Path, tmp_path: Path) -> Path:
    """An RSNA phantom that, like the release, does not say which images belong to one patient."""
    shutil.copytree(corpora / "rsna", tmp_path / "anonymous" / "rsna", ignore=shutil.ignore_patterns(PHANTOM_REPORTS))
    return tmp_path / "anonymous"


def request(data: Path, tmp_path: Path, **more) -> Request:
    defaults = {"backbones": ["torchvision:resnet18"], "tasks": [LINEAR], "limit": 8, "runs": 1, "profile": "smoke"}
    return Request(
        **{**defaults, **more}, data=[str(data)], out=tmp_path / "out", cache=tmp_path / "cache", executor="inline", tracking=False
    )


def lists_from(data: Path, folder: Path, split: str = "lovt") -> Path:
    reader = open_reader(dataset("rsna"), data / "rsna")
    (folder / "rsna").mkdir(parents=True)
    for name, ids in reader.split(dataset("rsna").splits[split]).items():
        (folder / "rsna" / f"{name}.csv").write_text("\n".join(["ID", *ids]) + "\n")
    return folder


def keys(found) -> list[str]:
    return [job.key for job in found.jobs]


# ----------------------------------------------------------------------------------------------------------------- planning


def test_each_split_has_jobs_of_its_own_and_the_default_is_the_cards(rsna: Path, tmp_path: Path):
    planned = {split: plan_jobs(request(rsna, tmp_path, split=split)) for split in (None, "lovt", "patient-disjoint", "size-matched")}
    assert keys(planned[None]) == keys(planned["lovt"])
    assert len({key for found in planned.values() for key in keys(found)}) == 3
    assert {split: found.jobs[0].experiment.dataset.split for split, found in planned.items() if split} == {s: s for s in planned if s}


def test_rsna_without_its_mapping_names_the_file(anonymous: Path, tmp_path: Path):
    with pytest.raises(LobeError, match=MAPPING):
        plan_jobs(request(anonymous, tmp_path, split="patient-disjoint"))


def test_a_phantom_needs_no_mapping(corpora: Path, tmp_path: Path):
    for split in ("patient-disjoint", "size-matched"):
        assert plan_jobs(request(corpora, tmp_path, split=split)).jobs[0].experiment.dataset.split == split


def test_a_patient_disjoint_split_keeps_the_test_images_and_its_control_drops_as_many(rsna: Path):
    reader = open_reader(dataset("rsna"), rsna / "rsna")
    lovt, disjoint, matched = (reader.split(rule) for rule in dataset("rsna").splits.values())
    patient = {i: reader.sample(i).patient_id for i in reader.ids}
    assert disjoint["test"] == matched["test"] == lovt["test"]
    assert len(disjoint["train"]) == len(matched["train"]) < len(lovt["train"])
    assert not {patient[i] for i in disjoint["train"]} & {patient[i] for i in lovt["test"]}


# -------------------------------------------------------------------------------------------------------------------- lists


def test_lists_that_say_what_the_rule_says_are_the_same_jobs(rsna: Path, tmp_path: Path):
    by_lists = plan_jobs(request(rsna, tmp_path, splits=lists_from(rsna, tmp_path / "lists")))
    assert keys(by_lists) == keys(plan_jobs(request(rsna, tmp_path)))
    disjoint = plan_jobs(request(rsna, tmp_path, splits=lists_from(rsna, tmp_path / "disjoint", "patient-disjoint")))
    assert keys(disjoint) == keys(plan_jobs(request(rsna, tmp_path, split="patient-disjoint")))


def test_lists_decide_the_jobs_and_their_folder_does_not(rsna: Path, tmp_path: Path):
    folder = lists_from(rsna, tmp_path / "lists")
    swap_rows(folder / "rsna" / "train.csv")
    first = plan_jobs(request(rsna, tmp_path, splits=folder))
    assert first.jobs[0].experiment.dataset.split == "lists"
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert keys(plan_jobs(request(rsna, tmp_path, splits=tmp_path / "elsewhere"))) == keys(first)
    swap_rows(tmp_path / "elsewhere" / "rsna" / "test.csv")
    assert not set(keys(plan_jobs(request(rsna, tmp_path, splits=tmp_path / "elsewhere")))) & set(keys(first))


def swap_rows(path: Path) -> None:
    header, first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, second, first, *rest]) + "\n")


def test_a_dataset_without_lists_is_an_error_that_names_the_folder(rsna: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LobeError, match="no folder of split lists"):
        plan_jobs(request(rsna, tmp_path, splits=tmp_path / "empty"))


def test_a_rule_and_lists_at_once_are_refused(rsna: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="use either"):
        plan_jobs(request(rsna, tmp_path, split="lovt", splits=tmp_path))


# ------------------------------------------------------------------------------------------------------- the whole way through


@pytest.mark.usefixtures("small_frames")
def test_splits_never_share_a_column_and_every_page_says_which_is_which(rsna: Path, lobe, tmp_path: Path):
    out = tmp_path / "out"
    command = [
        "run",
        "-b",
        "torchvision:resnet18",
        "-t",
        LINEAR,
        "--data",
        rsna,
        "--out",
        out,
        "--limit",
        12,
        "--seeds",
        1,
        "--profile",
        "smoke",
    ]
    command += ["--executor", "inline", "--no-tracking", "--json"]
    folder = lists_from(rsna, tmp_path / "lists")
    swap_rows(folder / "rsna" / "train.csv")
    for more in ([], ["--split", "patient-disjoint"], ["--splits", folder]):
        code, _, err = lobe(*command, *more)
        assert code == 0, err
    records = {r.job.experiment.dataset.split: r for r in Store(out).all()}
    assert set(records) == {"lovt", "patient-disjoint", "lists"}
    assert records["lovt"].leakage["test_images_patient_in_train"] > 0
    assert records["patient-disjoint"].leakage["test_images_patient_in_train"] == 0
    assert records["lists"].sample_digests["test"] == records["lovt"].sample_digests["test"]

    (board,) = tables.boards(rows_of(records.values()))
    assert [column.split for column in board.columns] == ["lovt", "lists", "patient-disjoint"]
    assert all(sum(board.cell(b, c) is not None for b in board.backbones) == 1 for c in board.columns)

    code, text, _ = lobe("report", "--out", out, "--json")
    page = Path(json.loads(text)["page"])
    html = page.read_text()
    assert "patient-disjoint split" in html
    assert "images share a patient with train" in (page.parent / "records.html").read_text()
    with (page.parent / "leaderboard.csv").open() as handle:
        assert {line["split"] for line in csv.DictReader(handle)} == set(records)


def test_verify_counts_leaks_and_checks_lists(rsna: Path, lobe, tmp_path: Path):
    folder = lists_from(rsna, tmp_path / "lists")
    code, text, _ = lobe("data", "verify", "rsna", "--data", rsna, "--splits", folder, "--json")
    lines = {line["what"]: line for line in json.loads(text)[0]["checks"]}
    leak = lines["split lovt: test images of a training patient"]
    assert (code, leak["verdict"], "share a patient with train" in leak["hint"]) == (0, "warning", True)
    assert "0 of" in lines["split patient-disjoint"]["found"]
    assert (lines["split lists"]["verdict"], lines["split lists are LoVT's"]["found"]) == ("ok", "no")
    (folder / "rsna" / "train.csv").write_text("ID\nnobody\n")
    code, text, _ = lobe("data", "verify", "rsna", "--data", rsna, "--splits", folder, "--json")
    lines = {line["what"]: line for line in json.loads(text)[0]["checks"]}
    assert (code, lines["split lists"]["verdict"], "nobody" in lines["split lists"]["hint"]) == (1, "error", True)


def test_verify_says_where_patients_are_unknown(anonymous: Path, lobe):
    _, text, _ = lobe("data", "verify", "rsna", "--data", anonymous, "--json")
    lines = {line["what"]: line for line in json.loads(text)[0]["checks"]}
    assert lines["split lovt: patients in two splits"]["found"] == "patients unknown"
    assert MAPPING in lines["split patient-disjoint"]["hint"]


# ---------------------------------------------------------------------------------------------------------------- reproduce


@pytest.mark.parametrize("paper", ["lovt", "gloria", "prior", "g2d", "lrclr", "mgca", "benchx"])
def test_a_paper_is_printed_without_any_record(lobe, paper: str):
    code, text, _ = lobe("reproduce", paper)
    assert (code, "Not a medical device" in text) == (0, True)
    code, text, _ = lobe("reproduce", paper, "--json")
    assert (code, json.loads(text)["paper"]) == (0, paper)


def test_the_published_numbers_stand_in_the_terminal(lobe):
    text = lobe("reproduce", "lovt")[1]
    line = next(line for line in text.splitlines() if line.startswith("LoVT") and "100%" in line)
    assert "8.5 ± 0.8" in line
    assert text.count("Nothing measured for this table yet.") == 2


@pytest.mark.usefixtures("small_frames")
def test_with_a_folder_pages_are_written_and_phantoms_are_refused_by_name(corpora: Path, lobe, tmp_path: Path):
    out = tmp_path / "out"
    command = (
        "run",
        "-b",
        "torchvision:resnet18",
        "-t",
        LINEAR,
        "--data",
        corpora,
        "--out",
        out,
        "--limit",
        8,
        "--seeds",
        1,
        "--profile",
        "smoke",
    )
    assert lobe(*command, "--executor", "inline", "--no-tracking")[0] == 0
    code, text, _ = lobe("reproduce", "lovt", "--out", out)
    assert (code, "phantom data never stands beside published numbers" in text) == (0, True)
    assert {p.suffix for p in (out / "report").glob("reproduce-lovt.*")} == {".html", ".md", ".csv", ".tex"}


def test_an_unknown_paper_names_those_there_are(lobe):
    code, _, err = lobe("reproduce", "nope")
    assert (code, "lovt" in err) == (2, True)
