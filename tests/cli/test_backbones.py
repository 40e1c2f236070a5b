"""`lobe check-backbone`, as it is shown."""

from __future__ import annotations

import json
from pathlib import Path

LINEAR = "rsna-linear-frozen-100"


def test_a_checked_backbone_is_shown_with_both_scores_and_its_picture(lobe, tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    own = "normalisation={'mean': (0.1,), 'std': (2.0,)}"
    file.write_text(file.read_text().replace("embed_dim=WIDTHS[32])", f"embed_dim=WIDTHS[32], {own})"))
    monkeypatch.setattr("benchmark.check_backbone.TIMED_IMAGES", 1)
    monkeypatch.setattr("benchmark.check_backbone._both_scores", lambda *_: {"dataset statistics": 0.1234, "own statistics": 0.2})
    command = ("check-backbone", f"{file}:build", "--task", LINEAR, "--data", tmp_path, "--picture", tmp_path / "maps.png")
    code, text, _ = lobe(*command)
    text = " ".join(text.split())
    assert code == 0
    assert "dataset statistics: 12.3 (one short run: no evidence for a small difference) own statistics: 20.0 (one short run" in text
    assert f"Feature maps: {tmp_path / 'maps.png'}" in text
    assert (tmp_path / "maps.png").is_file()
    document = json.loads(lobe(*command, "--json")[1])
    assert (document["scores"]["own statistics"], document["picture"]) == (0.2, str(tmp_path / "maps.png"))
