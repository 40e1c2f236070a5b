"""A store that an earlier commit wrote is resumed without computing and reported with the same digits, also once it is converted.

`tests/earlier/<commit>.tar.xz` is the output folder of that commit: four tasks of three kinds on generated data, a random ResNet-18, a few
training steps. The file beside it holds what the commit itself showed, and the digest of the corpora it read.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from benchmark.api import Request, evaluate, write_report
from benchmark.convert import convert
from benchmark.integrity import file_of
from benchmark.kinds.detection import DETECTIONS_FILE, DETECTIONS_JSON
from benchmark.kinds.kit.class_scores import SCORES_FILE
from benchmark.kinds.segmentation import MASKS_FILE, MASKS_JSON
from benchmark.store import Store
from benchmark.submission.score import scorer
from tests.corpora import CorpusPlan, write_corpus

EARLIER = Path(__file__).parent / "earlier"
COMMITS = sorted(path.name.partition(".")[0] for path in EARLIER.glob("*.tar.xz"))
# As the store was made: task -> protocol, images of each split, runs.
TASKS = {
    "rsna-linear-frozen-100": ("published", 4, 2),
    "covid-rural-unet-frozen-100": ("published", 4, 1),
    "rsna-yolov3-frozen-100": ("published", 4, 1),
    "rsna-labels-linear-frozen-100-gloria": ("corrected", 8, 1),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_corpus(CorpusPlan(dataset="rsna", n_patients=24, seed=3), root / "rsna")
    write_corpus(CorpusPlan(dataset="covid-rural", n_patients=14, seed=3), root / "covid-rural")
    return root


def once_converted(store: Path) -> None:
    assert convert(store).kept == ()


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(EARLIER / f"{request.param}.tar.xz") as packed:
        packed.extractall(tmp_path / "out", filter="data")
    return tmp_path / "out"


def shown_by(commit: str) -> dict:
    return json.loads((EARLIER / f"{commit}.json").read_text(encoding="utf-8"))


def digest_of_files(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def digits(rows: list[dict]) -> dict[str, dict]:
    def shown(row: dict) -> dict:
        half = row["half_width_95_percent"]  # a root, found to ten digits
        return {"mean_percent": row["mean_percent"], "half_width_95_percent": half and round(half, 9), "text": row["text"]}

    return {row["task"]: shown(row) for row in rows if row["kind"] == "backbone"}


@pytest.mark.parametrize(("store", "commit"), [(commit, commit) for commit in COMMITS], indirect=["store"])
def test_an_earlier_store_is_reported_with_the_same_digits(store: Path, commit: str) -> None:
    assert write_report(store).refused == ()
    shown = json.loads((store / "report" / "leaderboard.json").read_text(encoding="utf-8"))
    assert digits(shown["rows"]) == shown_by(commit)["rows"]


@pytest.mark.parametrize("first", [lambda store: None, once_converted], ids=["as it is", "converted"])
@pytest.mark.parametrize(("store", "commit"), [(commit, commit) for commit in COMMITS], indirect=["store"])
def test_an_earlier_store_is_resumed_without_computing(store: Path, commit: str, data: Path, tmp_path: Path, first) -> None:
    first(store)
    if digest_of_files(data) != shown_by(commit)["corpora_sha256"]:
        pytest.skip("the libraries of this machine write the generated images in other bytes: other data, other keys")
    for task, (protocol, limit, runs) in TASKS.items():
        request = Request(
            backbones=["torchvision:resnet18"],
            tasks=[task],
            protocol=protocol,
            data=[str(data)],
            out=store,
            cache=tmp_path / "cache",
            executor="inline",
            device="cpu",
            limit=limit,
            profile="smoke",
            runs=runs,
            tracking=False,
        )
        evaluation = evaluate(request)
        assert (evaluation.computed, len(evaluation.records), evaluation.failures) == (0, runs, [])


@pytest.mark.parametrize(("store", "commit"), [(commit, commit) for commit in COMMITS], indirect=["store"])
def test_predictions_of_an_earlier_store_score_the_same_in_both_forms(store: Path, commit: str, data: Path, tmp_path: Path) -> None:
    if digest_of_files(data) != shown_by(commit)["corpora_sha256"]:
        pytest.skip("the libraries of this machine write the generated images in other bytes: other data, other keys")

    def scored() -> dict[str, dict[str, float]]:
        found = {}
        for record in Store(store).all():
            names = (DETECTIONS_FILE, DETECTIONS_JSON, MASKS_FILE, MASKS_JSON, SCORES_FILE)
            file = next(path for name in names if (path := file_of(record, name, store)) is not None)
            protocol, limit, _ = TASKS[record.job.labels.task]
            again = scorer(record.job.labels.task, [str(data)], tmp_path / "cache", protocol, limit).score(file)
            assert again.metrics.items() <= record.metrics.items()
            found[record.key] = again.metrics
        return found

    before = scored()
    once_converted(store)
    assert scored() == before
    assert len(before) == 5
