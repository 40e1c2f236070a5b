"""`Lobe` is the command line's benchmark: the same jobs under the same keys, and its mistakes are sentences."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import Lobe
from benchmark.errors import UnknownName, UsageError
from tests.front.conftest import LINEAR, NEIGHBOURS

pytestmark = pytest.mark.long(15)


def test_importing_the_package_loads_nothing_and_its_front_no_torch():
    told = "import sys, benchmark; before = len([m for m in sys.modules if m.startswith('benchmark')]); from benchmark import Lobe; "
    told += "print(before, 'torch' in sys.modules, Lobe.__name__)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "Lobe"]
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        __import__("benchmark").Nothing  # noqa: B018


def test_a_second_evaluation_computes_nothing_and_gives_the_same(front):
    lobe, files = front
    first = lobe.results().runs()
    stamps = {path: path.stat().st_mtime_ns for path in (lobe.out / "records").iterdir()}
    again = lobe.evaluate(files, [LINEAR, NEIGHBOURS])
    assert {path: path.stat().st_mtime_ns for path in (lobe.out / "records").iterdir()} == stamps
    assert again.runs().drop(columns="seconds").equals(first.drop(columns="seconds"))
    assert again.problems == {}
    assert again.failures().empty


def test_the_plan_is_that_of_the_command(front, lobe, corpora: Path):
    it, files = front
    planned = it.plan(files, LINEAR)
    given = ("run", "-b", f"{files[0]}:build", "-b", f"{files[1]}:build", "-t", LINEAR, "--data", corpora, "--out", it.out, "--seeds", 3)
    given = (*given, "--limit", 12, "--profile", "smoke", "--protocol", "corrected", "--executor", "inline", "--dry-run", "--json")
    rows = json.loads(lobe(*given)[1])
    assert set(planned["state"]) == {"ok"}
    known = [row["key"] for row in rows if row["key"] is not None]
    assert known in ([], list(planned["key"]))  # a dry run reads no image: keys only where the cache of this test knows them


def test_a_dataset_that_is_not_there_is_warned_of_and_the_rest_goes_on(front):
    lobe, files = front
    with pytest.warns(UserWarning, match="left out: dataset siim"):
        results = lobe.evaluate(files[0], [LINEAR, "siim-unet-frozen-100"])
    assert results.tasks == [LINEAR]
    assert list(results.problems) == ["dataset siim"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda lobe, files: lobe.evaluate(files[0], LINEAR, seeds=3), "no setting seeds.*runs"),
        (lambda lobe, files: lobe.evaluate(object(), LINEAR), "lives in memory.*writefile"),
        (lambda lobe, files: lobe.split_features(files[0], "siim-unet-finetune-100"), "no head on a frozen encoder"),
        (lambda lobe, files: lobe.probe(files[0], LINEAR, run=9), "no stored result of rsna-linear-frozen-100"),
        (lambda lobe, files: lobe.results().compare("nobody", "two"), "no backbone is called so"),
        (lambda lobe, files: lobe.results().figure("differences"), "against="),
        (lambda lobe, files: lobe.results().per_image(run=8), "no such run"),
    ],
)
def test_a_mistake_is_a_sentence(front, call, said: str):
    with pytest.raises(UsageError, match=said):
        call(*front)


def test_the_text_of_a_call_names_every_setting_that_is_its_own(front):
    it, files = front
    with pytest.raises(UsageError, match="There is no setting nothing") as caught:
        it.evaluate(files, LINEAR, nothing=1)
    settings = set(str(caught.value).split("There are: ")[1].rstrip(".").split(", "))
    own = settings - set(inspect.signature(Lobe).parameters)
    assert own == settings & set(re.findall(r"`(\w+)`", inspect.getdoc(Lobe.evaluate) or ""))


def test_an_unknown_task_suggests_others(front):
    lobe, files = front
    with pytest.raises(UnknownName, match="rsna-linear-frozen-100"):
        lobe.evaluate(files[0], "rsna-linear-frozen-1000")


def test_listings_are_the_cards(front):
    lobe, _ = front
    tasks = lobe.tasks("lovt-18")
    assert len(tasks) == 18
    assert {"id", "dataset", "head", "fraction", "protocols"} <= set(tasks.columns)
    assert "gloria" in set(lobe.backbones()["name"])


def test_data_may_be_named_one_by_one(corpora: Path, tmp_path: Path):
    from benchmark import Lobe

    lobe = Lobe(tmp_path, data={"rsna": corpora / "rsna"})
    assert lobe._request("torchvision:resnet18", LINEAR, None).data == (f"rsna={corpora / 'rsna'}",)
    assert "rsna" in repr(lobe)
