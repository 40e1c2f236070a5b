"""A kind of task is a module: found by what a card asks for, and used from planning to pictures without a word elsewhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import benchmark
from benchmark import heads, kinds, registry, task_rules
from benchmark.errors import CardError, UsageError
from benchmark.kinds.base import Kind, Part, _of_example
from benchmark.report import gallery
from benchmark.store import Store
from benchmark.submission.score import scorer

PACKAGE = Path(benchmark.__file__).parent

# Whether an image has a box at all: a kind whose ground truth, files, metric and pictures are its own.
PRESENCE = """
import json

import numpy as np
import torch

from benchmark.heads.base import Targets
from benchmark.kinds.base import Names, ScoredSplit, TrainedKind, warnings_of
from benchmark.kinds.kit import coco_json, drawing, submitted
from benchmark.kinds.kit.stored import dump
from benchmark.metrics import scores


class Presence(TrainedKind):
    name, target = "presence", "presence"
    stored_as, drawn_from = coco_json, ("presence.json",)

    def needed(self, words):
        return "boxes"

    def metric_names(self, task, dataset, prompts, exclusive):
        return Names(frozenset({"agreement"}), frozenset({"agreement"}))

    def annotations(self, samples, experiment):
        return np.array([[len(sample.boxes_xywh) > 0] for sample in samples], np.int8)

    def n_positive(self, part):
        return int(part.annotations.sum())

    def targets(self, part, index, device):
        return Targets(labels=torch.from_numpy(part.annotations[index]).to(device, torch.float32))

    def validate(self, predicted, part, class_names, head):
        return self._scored(_given(predicted), part).metrics

    def test(self, predicted, part, card, head, batch_size):
        given = _given(predicted)
        found = self._scored(given, part)
        return ScoredSplit(found.metrics, found.statistics, given, warnings_of(found))

    def store(self, folder, job, part, predictions):
        rows = [{"image_id": i + 1, "category_id": 1, "score": float(p)} for i, p in enumerate(predictions[:, 0])]
        dump(folder / "presence.json", {**coco_json.header(job, part), "annotations": rows})

    def examples(self, part, predictions):
        return {"index": np.arange(2), "images": part.images(np.arange(2)).numpy()}

    def rescore(self, file, job, part, card):
        content = coco_json.load(file)
        names, _ = coco_json.images(file, content)
        submitted.require_same_images(file, names, part, card)
        placed = np.zeros((len(names), 1))
        placed[submitted.positions(names, part), 0] = [row["score"] for row in content["annotations"]]
        return self._scored(placed, part)

    def draw(self, examples, files, class_names, note):
        given = json.loads(files["presence.json"].read_text())["annotations"]
        for example in examples:
            picture, pen = drawing.canvas(example.image)
            drawing.legend(pen, "", f"{given[example.index]['score']:.2f}", note)
            yield picture

    def _scored(self, given, part):
        agrees = ((given > 0.5) == (part.annotations == 1)).astype(np.float64)
        return scores.score_rows(("agreement",), agrees, np.arange(len(part)), len(part))


def _given(predicted):
    return np.concatenate([found.float().cpu().numpy() for _, found in predicted])


KIND = Presence()
"""

# How long reports are, read through the backbone's text side: a kind that trains nothing.
LENGTHS = """
import numpy as np

from benchmark.cards import HeadFacts
from benchmark.kinds.base import Names, ScoredSplit
from benchmark.kinds.kit import parquet
from benchmark.kinds.kit.untrained import UntrainedKind
from benchmark.metrics import scores

FACTS = HeadFacts(title="length of reports", target="lengths", trains=False)


class Lengths(UntrainedKind):
    name, target = "length of reports", "lengths"
    stored_as = parquet

    def needed(self, words):
        return "reports"

    def metric_names(self, task, dataset, prompts, exclusive):
        return Names(frozenset(), frozenset({"thousand_words"}))

    def annotations(self, samples, experiment):
        return [sample.report for sample in samples]

    def answer(self, given):
        part = given.parts["test"]
        words = given.texts(part.annotations).mask.sum(dim=1).double().numpy()[:, None] / 1_000
        found = scores.score_rows(("thousand_words",), words, np.arange(len(part)), len(part))
        return ScoredSplit(found.metrics, found.statistics, words, ())

    def store(self, folder, job, part, predictions):
        parquet.write(folder / "lengths.parquet", job, {"id": np.array(part.ids), "thousand_words": predictions[:, 0]})


KIND = Lengths()
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two kinds, a head that learns for the first, and a task of each, all in temporary folders."""
    for room, files in {"kinds": {"presence": PRESENCE, "lengths": LENGTHS}, "heads": {"present": _HEAD}}.items():
        (tmp_path / room).mkdir()
        for name, text in files.items():
            (tmp_path / room / f"{name}.py").write_text(text)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path / "kinds")])
    monkeypatch.setattr(heads, "__path__", [*heads.__path__, str(tmp_path / "heads")])
    registry.forget()
    kinds.every.cache_clear()
    before = list(registry._included)
    small = {"frame_size": 64, "version": 1, "published": None}
    trained = registry.task("rsna-yolov3-frozen-100").model_dump(mode="json") | small
    trained |= {"id": "mine", "head": "present", "target": "presence", "select": "agreement", "report": "agreement"}
    asked = registry.task("open-i-retrieval-lobe").model_dump(mode="json") | small
    asked |= {"id": "mine-too", "head": "lengths", "target": "lengths", "report": "thousand_words"}
    (tmp_path / "cards" / "tasks").mkdir(parents=True)
    (tmp_path / "cards" / "tasks" / "mine.yaml").write_text(yaml.safe_dump({"tasks": [trained, asked]}))
    registry.include(tmp_path / "cards")
    yield
    registry._included[:] = before
    registry.forget()
    kinds.every.cache_clear()
    for name in ("benchmark.kinds.presence", "benchmark.kinds.lengths", "benchmark.heads.present"):
        sys.modules.pop(name, None)


_HEAD = """
from benchmark.cards import HeadFacts
from benchmark.heads.classifier import build

FACTS = HeadFacts(title="present", target="presence")
"""


def test_a_made_up_kind_is_planned_trained_stored_scored_again_and_drawn(made_up, small, tiny, corpora: Path, tmp_path: Path) -> None:
    task_rules.require_included()
    job, place = small.one("mine", tiny(), batch_size=4)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert record.status == "ok"
    assert record.counts["test"]["positives"] > 0
    assert set(record.metrics) == {"agreement"}
    assert set(record.validation) == {"agreement", "negative_loss"}
    found = scorer("mine", [str(corpora)], tmp_path / "scoring", job.labels.protocol, limit=12).score(
        tmp_path / "produced" / "presence.json"
    )
    assert found.metrics == record.metrics
    stored = Store(tmp_path / "out").put(record, {p.name: p.read_bytes() for p in (tmp_path / "produced").iterdir()})
    ((pictures,),) = (rows.values() for rows in gallery.draw([stored], tmp_path / "out", tmp_path / "pictures").values())
    assert len(pictures) == 2
    assert all(np.asarray(Image.open(picture.path)).any() for picture in pictures)


def test_a_made_up_kind_that_trains_nothing_is_found_by_its_head_and_answered(made_up, small, tiny_words, corpus: Path, tmp_path) -> None:
    task_rules.require_included()
    job, place = small.one("mine-too", tiny_words(), root=corpus, limit=8)
    record = small.fit(job, place, produced=tmp_path / "produced")
    assert record.status == "ok"
    assert 0 < record.metrics["thousand_words"] < 1
    assert (tmp_path / "produced" / "lengths.parquet").is_file()


def test_without_its_module_a_target_is_a_sentence() -> None:
    with pytest.raises(
        CardError,
        match=r"No kind of task that is trained has the target 'presence'\. Their targets are: boxes, labels, labels-to-masks, masks",
    ):
        kinds.find("presence", trains=True)


def test_every_shipped_task_has_a_kind_and_no_two_kinds_take_the_same_tasks() -> None:
    used = {kinds.of_task(task) for task in registry.tasks().values()}
    assert used == set(kinds.every())
    assert len({(kind.target, kind.trains) for kind in kinds.every()}) == len(kinds.every())
    named = {task.head for task in registry.tasks().values() if task.words is not None}
    assert named == {name for name, facts in registry.heads().items() if not facts.trains}


# ------------------------------------------------------------------------------------------------------- nobody else knows


def modules_outside() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "kinds" not in path.parents and "content" not in path.parts]


def words_of_kinds() -> set[str]:
    """Targets, heads and module names of kinds."""
    return {kind.target for kind in kinds.every()} | {kind.__module__.rpartition(".")[2] for kind in kinds.every()}


def chains(tree: ast.AST) -> list[int]:
    """Lines that compare an attribute `target`, `kind` or `head` with a literal that means a kind of task."""
    wanted, found = words_of_kinds(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *(case.pattern for case in node.cases)]
        else:
            continue
        asks = any(isinstance(side, ast.Attribute) and side.attr in ("target", "kind", "head") for side in sides)
        literals = {leaf.value for side in sides for leaf in ast.walk(side) if isinstance(leaf, ast.Constant)}
        if asks and literals & wanted:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "line",
    [
        'if card.target == "boxes": pass',
        'if "masks" != part.target: pass',
        'found = part.target in ("masks", "boxes")',
        'if model.head.kind == "segmentation": pass',
        'if task.head == "zero_shot": pass',
        'match job.target:\n    case "labels": pass',
    ],
)
def test_the_search_for_chains_finds_them(line: str) -> None:
    assert chains(ast.parse(line)) == [1]


def test_no_module_outside_compares_a_target_or_a_kind() -> None:
    modules = modules_outside()
    assert PACKAGE / "training" / "fit.py" in modules
    assert {str(path): lines for path in modules if (lines := chains(ast.parse(path.read_text(encoding="utf-8"))))} == {}


def test_no_kind_and_nothing_that_kinds_share_knows_another() -> None:
    others = {kind.__module__ for kind in kinds.every()}
    for path in (PACKAGE / "kinds").rglob("*.py"):
        imported = {node.module for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)}
        assert not imported & others, path


def test_what_a_kind_leaves_unsaid_is_nothing_and_a_form_that_it_has_not_is_a_sentence(made_up, tmp_path: Path) -> None:
    trained, asked = kinds.find("presence", trains=True), kinds.find("lengths", trains=False)
    task, file = registry.task("mine"), tmp_path / "presence.json"
    assert Kind.measured(trained, task, registry.dataset(task.dataset), {}, False) == frozenset()
    assert trained.export(file, "task") is None
    assert (trained.prepare(None), trained.anchors(None, (), None)) == (None, {})
    assert (list(asked.draw([], {}, (), "")), asked.examples(None, None)) == ([], None)
    with pytest.raises(UsageError, match=r"presence\.json has no other form"):
        trained.convert(file, tmp_path / "into")
    with pytest.raises(UsageError, match="image 7 holds no boxes: it is not a file of this task"):
        _of_example(None, 7, "boxes")


def test_a_part_of_a_kind_that_trains_nothing_has_no_targets(made_up) -> None:
    nothing = ((),) * 3
    part = Part("test", (), np.zeros(0, np.int64), *nothing, None, kinds.find("lengths", trains=False), "padded-64")
    with pytest.raises(TypeError, match="length of reports trains nothing: its parts have no targets"):
        _ = part.trained_kind
