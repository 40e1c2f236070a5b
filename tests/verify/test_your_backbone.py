"""docs/your-backbone.md is true: its card, and its commands in the order in which they stand there, from a file of weights to a row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import torchvision

from docsite.path_steps import NOTED
from tests.page_commands import ROOT, commands, environment, noted, timed, typed

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "your-backbone.md"
# What stands in no block of `sh` needs what cannot be made here: the released file of GLoRIA, and CheXpert. A tower of the same layout:
# tests/encoders/test_gloria.py.


def test_the_commands_of_the_page_lead_from_weights_to_a_row(tmp_path: Path, record_property) -> None:
    lines = commands(PAGE)
    (card,) = re.findall(r"```yaml\n(name: mine\n.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    (tmp_path / "mine.yaml").write_text(card, encoding="utf-8")
    torch.manual_seed(7)  # whatever ran before: weights that the encoder has already are refused
    network = torchvision.models.resnet50(weights=None)
    torch.save({"state_dict": {f"encoder_q.{name}": tensor for name, tensor in network.state_dict().items()}}, tmp_path / "mine.pth")

    ran = list(timed(typed(lines, tmp_path, environment(tmp_path))))
    assert len(ran) == len(lines) >= 8
    record_property(NOTED, noted((line, spent) for line, _, spent in ran))
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    (row,) = json.loads((tmp_path / "trial" / "report" / "leaderboard.json").read_text(encoding="utf-8"))["rows"]
    assert (row["task"], row["runs_ok"]) == ("rsna-linear-frozen-100", 1)
