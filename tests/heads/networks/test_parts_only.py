"""Parts of mmdet without the rest of it: what is loaded, and that the rest is there for whoever asks for it later."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.heads.networks import parts_only as module
from benchmark.heads.networks.parts_only import parts_only

FILES = {
    "shop/__init__.py": "",
    "shop/tools/__init__.py": """
from .axe import Axe
from .saw import (Saw, cut as shorten)
from .file import file
from .all import *
OPEN = True
""",
    "shop/tools/axe.py": "class Axe: pass\n",
    "shop/tools/saw.py": "from ..woods import Oak\nclass Saw: wood = Oak\ndef cut(): return 'short'\n",
    "shop/tools/file.py": "def file(): return 'smooth'\n",
    "shop/tools/all.py": "raise RuntimeError('nobody asked for this')\n",
    "shop/woods/__init__.py": "from .oak import Oak\nfrom .elm import Elm\n",
    "shop/woods/oak.py": "class Oak: pass\n",
    "shop/woods/elm.py": "class Elm: pass\n",
    "shop/varnish/__init__.py": "from .clear import Clear\n",
    "shop/varnish/clear.py": "class Clear: pass\n",
}
HEADS = """
import json, sys
from benchmark.cards import Switches
from benchmark.heads.base import HeadRequest
from benchmark.heads.networks import faster_rcnn, yolov3

yolov3.WIDTHS, faster_rcnn.WIDTH, faster_rcnn.HIDDEN = (16, 8, 4), 8, 16
request = HeadRequest(channels={4: 4, 8: 4, 16: 4, 32: 4}, n_classes=1, frame_size=64, switches=Switches())
yolov3.YoloV3(request), faster_rcnn.FasterRcnn(request)
print(json.dumps([name for name in ("matplotlib", "mmdet.models", "mmengine.runner", "sklearn", "transformers") if name in sys.modules]))
"""
THEN_ALL = """
from mmdet.registry import MODELS
import mmdet.models, mmdet.utils, mmcv.cnn, mmcv.ops, mmengine.model
from mmdet.models.detectors import TwoStageDetector
same = {
    "by name": MODELS.get("FPN") is faster_rcnn.FPN,
    "in its package": mmdet.models.dense_heads.YOLOV3Head is yolov3.YOLOV3Head,
    "as a base": issubclass(mmdet.models.dense_heads.GARPNHead, mmdet.models.dense_heads.base_dense_head.BaseDenseHead),
    "of mmcv": mmcv.ops.RoIAlign is faster_rcnn.RoIAlign,
    "one nobody needs": MODELS.get("ResNet") is mmdet.models.ResNet,
}
print(json.dumps(same))
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library like mmdet, of which one module cannot be loaded."""
    for name, code in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGES", ("shop.tools", "shop.woods"))
    monkeypatch.setattr(module, "WHOLE", "shop.woods")
    monkeypatch.setattr(module, "_FINDER", module._Finder())
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    yield
    for name in _loaded():
        del sys.modules[name]


def _loaded() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] == "shop"}


@pytest.mark.usefixtures("shop")
def test_only_the_modules_of_what_is_named_are_loaded() -> None:
    with parts_only():
        from shop.tools import shorten

        assert shorten() == "short"
        assert "shop.tools.axe" not in sys.modules
        assert "shop.woods.elm" in sys.modules  # of the package that is loaded whole
    assert _loaded() == {"shop", "shop.tools.saw", "shop.woods", "shop.woods.oak", "shop.woods.elm"}


@pytest.mark.usefixtures("shop")
def test_a_function_named_like_its_module_is_the_function_though_the_module_came_first() -> None:
    with parts_only():
        importlib.import_module("shop.tools.file")
        from shop.tools import file

        assert file() == "smooth"
        assert importlib.import_module("shop.tools").file is file


@pytest.mark.usefixtures("shop")
def test_a_module_can_be_named_and_what_is_not_there_cannot() -> None:
    with parts_only():
        from shop.tools import saw

        assert saw.cut() == "short"
        with pytest.raises(ImportError, match=r"cannot import name 'Plane' from 'shop\.tools'"):
            from shop.tools import Plane  # noqa: F401


@pytest.mark.usefixtures("shop")
def test_whoever_imports_the_package_later_gets_all_of_it_made_of_the_same_modules(tmp_path: Path) -> None:
    with parts_only():
        from shop.tools import Saw
    assert not hasattr(sys.modules["shop"], "tools")
    (tmp_path / "shop/tools/all.py").write_text("class Plane: pass\n", encoding="utf-8")
    import shop.tools

    assert shop.tools.OPEN
    assert shop.tools.Plane.__module__ == "shop.tools.all"
    assert shop.tools.Saw is shop.tools.saw.Saw is Saw
    assert shop.tools.__loader__.get_source("shop.tools") == FILES["shop/tools/__init__.py"]


@pytest.mark.usefixtures("shop")
def test_who_leaves_first_takes_nothing_from_who_is_still_inside() -> None:
    before = [type(finder) for finder in sys.meta_path].count(module._Finder)
    with parts_only():
        with parts_only():
            import shop.tools
        assert shop.tools.Saw is importlib.import_module("shop.tools").Saw
        assert "shop.tools.axe" not in sys.modules
    assert "shop.tools" not in sys.modules
    with parts_only():
        assert importlib.import_module("shop.tools").Saw is shop.tools.Saw
    assert [type(finder) for finder in sys.meta_path].count(module._Finder) == before + 1  # however often


@pytest.mark.usefixtures("shop")
def test_a_package_that_was_imported_before_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shop/tools/all.py").write_text("", encoding="utf-8")
    tools, other = importlib.import_module("shop.tools"), importlib.import_module("shop.varnish")
    with parts_only():
        from shop.tools import Saw
    assert Saw is tools.Saw
    assert (sys.modules["shop.tools"], sys.modules["shop.varnish"]) == (tools, other)


@pytest.mark.usefixtures("shop")
def test_nothing_is_left_behind_when_an_import_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nobody asked"), parts_only():
        from shop.tools.all import Plane  # noqa: F401
    assert _loaded() == {"shop"}
    (tmp_path / "shop/tools/all.py").write_text("", encoding="utf-8")
    assert importlib.import_module("shop.tools").OPEN


def said_by(code: str) -> list[str] | dict[str, bool]:
    """What a fresh interpreter prints last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_detection_heads_load_nothing_heavy_of_mmdet() -> None:
    assert said_by(HEADS) == []


@pytest.mark.slow
def test_all_of_mmdet_is_there_for_whoever_imports_it_after_them() -> None:
    """The made-up library above is the miniature: all of mmdet takes seconds to load."""
    same = said_by(HEADS + THEN_ALL)
    assert same == dict.fromkeys(same, True)
