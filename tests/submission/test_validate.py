"""What a stranger's archive may say: texts that can stand in a table, cards that are some, a whole suite and all of its runs."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmark import registry
from benchmark.cards import Contamination, Record
from benchmark.errors import LobeError, UsageError
from benchmark.integrity import sealed
from benchmark.shelf import Shelf
from benchmark.submission import archive, claims, texts, verified
from benchmark.submission.claims import contradictions
from benchmark.submission.completeness import equal_runs
from benchmark.submission.manifest import Manifest
from benchmark.submission.validate import Validated, validate
from tests.submission.conftest import MASKS
from tests.submission.forging import Files, packed, put, records_of


@pytest.fixture
def judged(honest: tuple[Files, Manifest], tmp_path: Path):
    """Validates the packed store after a change to its files and its manifest."""

    def call(change=None, **manifest) -> Validated:
        files, given = honest
        if change is not None:
            change(files)
        return validate(packed(files, given.model_copy(update=manifest), tmp_path / "forged.zip"), allow_phantom=True)

    return call


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("=HYPERLINK(1)", "would run as a formula"),
        ("+1", "would run as a formula"),
        ("-1", "would run as a formula"),
        ("@SUM(A1)", "would run as a formula"),
        ("\t=1", "cannot be seen"),
        ("resnet\u200b50", "cannot be seen"),
        ("resnet\u202e05", "turn the text round"),
        ("re\u0455net50", "several scripts"),
        ("\uff52esnet50", "look like others"),
        ("r" * 121, "longer than 120"),
        ("re\x00snet", "cannot be seen"),
    ],
)
def test_a_name_that_may_stand_in_no_table_is_refused(judged, text: str, why: str) -> None:
    def rename(files: Files) -> None:
        for raw in records_of(files):
            if raw["job"]["labels"]["backbone"] == "resnet18 (mine.pt)":
                raw["job"]["labels"]["backbone"] = text
                put(files, raw)

    found = judged(rename, backbones=(text, "resnet18 (random)"))
    assert any(why in fault for fault in found.faults), found.faults
    assert all(text not in fault or text.isascii() for fault in found.faults)


def test_names_of_other_languages_may_stand_in_tables(judged) -> None:
    def rename(files: Files) -> None:
        for raw in records_of(files):
            raw["job"]["labels"]["backbone"] = raw["job"]["labels"]["backbone"].replace("mine.pt", "Münchner Röntgen")
            put(files, raw)

    assert judged(rename, backbones=("resnet18 (Münchner Röntgen)", "resnet18 (random)")).faults == ()


def test_a_file_beside_its_record_that_the_record_does_not_name_is_refused(judged) -> None:
    def add(files: Files) -> None:
        key = records_of(files)[0]["key"]
        files[f"predictions/{key}/more.parquet"] = b"PAR1"

    assert any("more.parquet is a file that its record does not name" in fault for fault in judged(add).faults)


def test_predictions_without_their_record_are_refused(judged) -> None:
    def add(files: Files) -> None:
        files[f"predictions/{'a' * 32}/statistics.parquet"] = b"PAR1"

    assert any("is of no record that the archive holds" in fault for fault in judged(add).faults)


@pytest.mark.parametrize("content", [b"{}", b'{"name": 7}', b"{" + b"[" * 5000])
def test_a_card_that_is_none_is_refused(judged, content: bytes) -> None:
    def add(files: Files) -> None:
        files["cards/backbones/mine.json"] = content

    assert any(fault.startswith("cards/backbones/mine.json is no card") for fault in judged(add).faults)


def test_a_record_that_is_none_is_refused_and_the_others_are_looked_at(judged) -> None:
    def damage(files: Files) -> None:
        files[f"records/{records_of(files)[0]['key']}.json"] = b'{"key": 1}'

    found = judged(damage)
    assert (found.n_records, any("is damaged" in fault for fault in found.faults)) == (3, True)
    assert not any(str(Path("/tmp")) in fault for fault in found.faults), "no folder that is gone when it is read"


def test_a_manifest_that_names_other_backbones_than_the_records_is_refused(judged) -> None:
    assert any("names other backbones" in fault for fault in judged(backbones=("resnet18 (random)",)).faults)
    assert any("LOBE has no suite 'mine'" in fault for fault in judged(suite="mine").faults)


def test_a_limited_or_failed_run_is_refused(judged) -> None:
    def limit(files: Files) -> None:
        raw = records_of(files)[0]
        raw["job"]["experiment"]["limit"], raw["scale"] = 32, "limited"
        put(files, raw)

    def fail(files: Files) -> None:
        raw = next(each for each in records_of(files) if each["scale"] == "full")  # the one above is limited now
        raw |= {"status": "failed", "failure": {"kind": "x", "sentence": "y", "traceback": ""}}
        put(files, raw)

    assert any("a limited run; neither is submitted" in fault for fault in judged(limit).faults)
    assert any("it failed; neither is submitted" in fault for fault in judged(fail).faults)


def test_what_a_suite_asks_for_and_is_not_there_is_named(judged) -> None:
    def drop(files: Files) -> None:
        (raw, _) = records_of(files, MASKS)
        for name in [name for name in files if raw["key"] in name]:
            del files[name]

    found = judged(drop, suite="demo")
    assert found.faults == ()
    assert sorted(len(sentence.partition(" of 4 tasks of demo are missing: ")[0].split()) for sentence in found.missing) == [3, 3]
    assert sum("covid-rural-linear-frozen-demo" in sentence for sentence in found.missing) == 1


def test_one_run_sent_in_several_times_is_noted(out: Path) -> None:
    record = Shelf(out).believable()[0][0]
    experiment = record.job.experiment.model_copy(update={"head_seed": 7})
    job = record.job.model_copy(update={"experiment": experiment})
    twin = record.model_copy(update={"job": job, "key": job.key})
    (sentence,) = equal_runs([record, twin])
    assert "2 runs of different seeds have 1 different results" in sentence
    assert equal_runs([record, twin.model_copy(update={"metrics": {"opacity_dice": 0.1}})]) == []


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to every value in a record, whatever it lies in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def test_a_record_of_any_values_is_judged_and_breaks_nothing(made: Path) -> None:
    records, _ = Shelf(made).believable()
    odd: tuple[Any, ...] = (None, "", "x", "rsna", -1, 0, 10**30, 1e308, [], {}, True, ["x"], {"x": 1})
    n_judged = 0
    for record in (records[0], records[-1]):
        raw = json.loads(record.model_dump_json())
        for number, (*folders, last) in enumerate(places(raw)):
            changed = copy.deepcopy(raw)
            at = changed
            for name in folders:
                at = at[name]
            at[last] = odd[number % len(odd)]
            with contextlib.suppress(ValidationError):
                judged = Record.model_validate(changed)
                n_judged += 1
                with contextlib.suppress(LobeError):
                    assert isinstance(verified.fault_in(judged, made), str)
                assert isinstance(claims.fault_in(judged), str)
                assert isinstance(claims.is_known_release(judged), bool)
                assert texts.fault_in(judged) is None or all(texts.fault_in(judged) or ())
    assert n_judged > 50


def test_two_marks_of_one_backbone_that_cannot_both_be_true_are_named(out: Path) -> None:
    def marked(**marks: Contamination):
        records, _ = Shelf(out).believable()
        mine = [record for record in records if record.job.experiment.backbone.digest]
        for record in mine:
            job = record.job
            labels = job.labels.model_copy(update={"contamination": marks[job.experiment.dataset.name.replace("-", "_")]})
            yield record.model_copy(update={"job": job.model_copy(update={"labels": labels})})

    assert contradictions(marked(rsna=Contamination.NONE, covid_rural=Contamination.NONE)) == []
    records = list(marked(rsna=Contamination.NONE, covid_rural=Contamination.NONE))
    other = records[0].job.labels.model_copy(update={"contamination": Contamination.LABELS})
    records[0] = records[0].model_copy(update={"job": records[0].job.model_copy(update={"labels": other})})
    assert any("its records say both" in sentence for sentence in contradictions(records))


def put_again(files: Files, raw: dict[str, Any], **experiment: Any) -> None:
    """Adds a record that differs from one in its experiment, with the same files."""
    kept = {name: content for name, content in files.items() if raw["key"] in name}
    raw["job"]["experiment"] |= experiment
    put(files, raw)
    files |= kept


def test_one_result_under_two_seeds_is_noted_and_a_run_twice_refused(judged) -> None:
    found = judged(lambda files: put_again(files, records_of(files, MASKS)[0], head_seed=777))
    assert any("2 runs of different seeds have 1 different results" in note for note in found.notes), found.notes
    assert any("a run is there twice, with different jobs" in fault for fault in found.faults)


def test_other_code_and_cards_that_are_not_lobes_are_noted(judged) -> None:
    name, card = next(iter(registry.backbones().items()))

    def add(files: Files) -> None:
        files["cards/backbones/mine.json"] = card.model_dump_json().encode()
        files[f"cards/backbones/{name}.json"] = card.model_copy(update={"title": "another one"}).model_dump_json().encode()

    found = judged(add, code="0" * 64)
    assert found.faults == ()
    said = " ".join(found.notes)
    assert "cards/backbones/mine.json: this LOBE has none of that name; LOBE's own cards count." in said
    assert f"cards/backbones/{name}.json: this LOBE has another one of that name" in said
    assert "It was packed by other code than this" in said


def test_an_archive_without_a_record_is_refused(judged) -> None:
    def drop(files: Files) -> None:
        for name in [name for name in files if name.startswith(("records/", "predictions/"))]:
            del files[name]

    assert "It holds no record." in judged(drop, backbones=(), tasks=()).faults


def test_predictions_that_are_not_those_of_their_record_are_refused(judged) -> None:
    def change(files: Files) -> None:
        files[f"predictions/{records_of(files, MASKS)[0]['key']}/masks.parquet"] = b"PAR1 of another"

    assert any("masks.parquet is not the file that was stored" in fault for fault in judged(change).faults)


def test_without_statistics_nothing_is_computed_again_and_the_level_says_so(judged) -> None:
    def drop(files: Files) -> None:
        raw = records_of(files, MASKS)[0]
        del files[f"predictions/{raw['key']}/statistics.parquet"]
        put(files, raw)

    found = judged(drop)
    assert (found.faults, found.trust, found.n_recomputed) == ((), "reported", 3)
    assert any("no statistics, so nothing of it could be computed again" in note for note in found.notes)


def sent_of(honest: tuple[Files, Manifest], to: Path, change=None) -> Path:
    """An archive of one record of masks."""
    files, manifest = honest
    raw = records_of(files, MASKS)[0]
    kept = {name: content for name, content in files.items() if raw["key"] in name}
    if change is not None:
        change(kept, raw)
    labels = raw["job"]["labels"]
    return packed(kept, manifest.model_copy(update={"backbones": (labels["backbone"],), "tasks": (labels["task"],)}), to)


def without_masks(files: Files, raw: dict[str, Any]) -> None:
    del files[f"predictions/{raw['key']}/masks.parquet"]
    put(files, raw)


def with_wrong_masks(files: Files, raw: dict[str, Any]) -> None:
    files[f"predictions/{raw['key']}/masks.parquet"] = b"PAR1 and nothing"
    put(files, raw)


def test_what_cannot_be_scored_again_is_noted_or_refused(honest, corpora: Path, image_cache: Path, tmp_path: Path) -> None:
    cache, changed = image_cache.parent / "scoring", tmp_path / "changed" / "covid-rural"
    shutil.copytree(corpora / "covid-rural", changed)
    image = next(path for path in sorted(changed.rglob("*")) if path.suffix in (".png", ".jpg", ".jpeg", ".dcm"))
    image.write_bytes(image.read_bytes() + b"\0\0")
    tried = [(without_masks, corpora), (with_wrong_masks, corpora), (None, changed.parent), (None, tmp_path / "none")]
    (tmp_path / "none" / "covid-rural").mkdir(parents=True)
    found = []
    for number, (change, data) in enumerate(tried):
        files = dict(honest[0]), honest[1]
        file = sent_of(files, tmp_path / f"{number}.zip", change)
        found.append(validate(file, data=[str(data)], cache=cache, allow_phantom=True))
    assert [one.n_rescored for one in found] == [0] * 4
    assert any("no predictions that could be scored again" in note for note in found[0].notes)
    assert any("its predictions cannot be scored" in fault for fault in found[1].faults)
    assert any("was not compared: the images here are not those" in note for note in found[2].notes), found[2]
    assert any("was not scored again: " in note for note in found[3].notes), found[3]


def test_a_folder_of_runs_trained_again_that_says_nothing_or_something_else(honest, out: Path, tmp_path: Path) -> None:
    file = sent_of(honest, tmp_path / "sent.zip")
    with pytest.raises(UsageError, match=r"holds no results\. Give the --out in which the jobs were run again"):
        validate(file, rerun=tmp_path / "nothing", allow_phantom=True)
    (record,) = (one for one in Shelf(out).believable()[0] if one.key in file_names(file))
    path = out / "records" / f"{record.key}.json"
    path.write_text(sealed(record.model_copy(update={"parameters": {"head": 7}})).model_dump_json())
    found = validate(file, rerun=out, allow_phantom=True)
    assert (found.n_rerun, found.trust) == (1, "re-run")
    assert any("trained again it counts other parameters" in note for note in found.notes)
    path.unlink()
    assert validate(file, rerun=out, allow_phantom=True).n_rerun == 0


def file_names(file: Path) -> str:
    with archive.opened(file) as given:
        return " ".join(given.names)
