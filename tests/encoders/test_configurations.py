"""A folder goes by what its configurations hold, wherever it lies, and a job builds no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cards import BackboneRef
from benchmark.contents import sha256_of
from benchmark.encoders.configurations import model_in_keys, require_planned
from benchmark.encoders.naming import CONFIGURATIONS
from benchmark.errors import CheckpointChanged


def planned(family: str, folder: Path) -> BackboneRef:
    return BackboneRef(family=family, model=model_in_keys(family, str(folder), sha256_of), digest=None)


@pytest.fixture(params=sorted(CONFIGURATIONS))
def family(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A family of folders, and a folder of it in the temporary one."""
    (tmp_path / "net").mkdir()
    for name in CONFIGURATIONS[request.param]:
        (tmp_path / "net" / name).write_text("{}")
    return request.param


def test_every_configuration_of_a_folder_is_held_to_what_was_planned(family: str, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    ref = planned(family, folder)
    require_planned(ref, str(folder))
    for name in CONFIGURATIONS[family]:
        (folder / name).write_text("{ }")
        with pytest.raises(CheckpointChanged, match=rf"net is not the one the job was planned with: .*{name}.* differs"):
            require_planned(ref, str(folder))
        assert planned(family, folder) != ref
        (folder / name).write_text("{}")
    require_planned(ref, str(folder.rename(tmp_path / "elsewhere")))  # a folder may move


def test_a_configuration_that_came_later_is_another_folder(tmp_path: Path) -> None:
    """open_clip's goes before that of transformers."""
    (tmp_path / "config.json").write_text("{}")
    ref = planned("hf_text", tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(CheckpointChanged, match=r"open_clip_config\.json and config\.json differs"):
        require_planned(ref, str(tmp_path))


def test_what_is_no_folder_goes_by_its_name(tmp_path: Path) -> None:
    for name in ("dinov2-base-518", "owner/model", str(tmp_path)):
        assert planned("hf", Path(name)).model == name
        require_planned(planned("hf", Path(name)), name)
    require_planned(BackboneRef(family="torchvision", model="resnet18", digest=None), "resnet18")
