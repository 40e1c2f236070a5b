"""What pages load lies in the site's folder, as scripts that a browser takes from `file://`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.report import assets


def test_the_table_component_becomes_a_script_that_leaves_its_default_export(tmp_path: Path):
    files = {path.name: path for path in assets.write(tmp_path)}
    assert set(files) == {*assets.SCRIPTS, assets.TABLES, assets.PLOTLY, assets.STYLE}
    text = files[assets.TABLES].read_text(encoding="utf-8")
    assert not re.search(r"\bexport\s*\{|^import\s", text, re.M)
    assert re.search(r"globalThis\.DataTable = [\w$]+;", text)
    assert len(text) < 700_000  # of the megabyte that a first page may weigh


@pytest.mark.parametrize("module", ["var a=1;", "export{a as b};", "export{a as default};export{b as default};"])
def test_a_bundle_of_another_shape_is_refused(module: str):
    with pytest.raises(UsageError, match="constraints"):
        assets.classic_script(module)


def test_a_name_with_a_dollar_survives():
    assert "globalThis.DataTable = $a;" in assets.classic_script("var $a=1;export{$a as default,b as c}")


def test_without_the_package_of_tables_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assets, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="The package itables, which ships the tables of a page, is not installed"):
        assets._tables.__wrapped__()
