"""The reference panel: a scale for every task, from trained rows alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.statistics.panel import PanelScale, freeze_panel, panel_scale, reliability

TRAINED = {f"b{i}": {"t1": float(i), "t2": 10.0 - i} for i in range(8)}
UNTRAINED = {"random": {"t1": -50.0, "t2": 50.0}}


def test_scale_is_median_and_linear_quartiles() -> None:
    assert panel_scale(range(8)) == PanelScale(3.5, 3.5)  # quartiles 1.75 and 5.25
    assert panel_scale([1, 2, 3, 4, 5, 6, 7, 100]) == PanelScale(4.5, 3.5)


def test_lower_is_turned_where_it_is_better() -> None:
    scores = np.array([0.0, 3.5, 7.0])
    assert PanelScale(3.5, 3.5).z(scores).tolist() == [-1, 0, 1]
    assert PanelScale(3.5, 3.5, rises=False).z(scores).tolist() == [1, 0, -1]


def test_untrained_rows_widen_no_scale() -> None:
    panel = freeze_panel(TRAINED | UNTRAINED, untrained=["random"], falling=["t2"])
    assert panel.by_task == {"t1": PanelScale(3.5, 3.5), "t2": PanelScale(6.5, 3.5, rises=False)}
    assert panel.rows == tuple(TRAINED)


def test_a_frozen_panel_cannot_be_changed_and_gives_some_of_its_tasks() -> None:
    panel = freeze_panel(TRAINED, untrained=[])
    with pytest.raises(TypeError):
        panel.by_task["t1"] = PanelScale(0, 1)
    assert dict(panel.only(["t2"]).by_task) == {"t2": panel.by_task["t2"]}
    with pytest.raises(UsageError, match="no scale for t9"):
        panel.only(["t9"])


def test_there_is_no_panel_of_few_rows_of_rows_with_gaps_or_of_equal_ones() -> None:
    with pytest.raises(UsageError, match="at least 8 backbones, found 7"):
        panel_scale(range(7))
    for scores in ([1] * 8, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, np.nan]):
        with pytest.raises(UsageError, match="no scale"):
            panel_scale(scores)
    seven = {name: TRAINED[name] for name in list(TRAINED)[:7]}
    with pytest.raises(UsageError, match="8 trained backbones, found 7"):
        freeze_panel(seven | UNTRAINED, untrained=["random"])
    with pytest.raises(UsageError, match="b8: t2"):
        freeze_panel(TRAINED | {"b8": {"t1": 1.0}}, untrained=[])
    with pytest.raises(UsageError, match="t2: The panel's scores"):
        freeze_panel({name: {"t1": one["t1"], "t2": 3.0} for name, one in TRAINED.items()}, untrained=[])


def test_reliability_is_the_share_of_spread_that_is_no_chance() -> None:
    assert reliability([1.0, 2.0, 3.0], [0.0]) == 1
    assert reliability([1.0, 2.0, 3.0], [0.4, 0.8]) == pytest.approx(0.7)
    # Rows that differ by chance alone: the variance of a difference is twice that of a row.
    rng = np.random.default_rng(0)
    noise = rng.normal(size=4000)
    assert reliability(noise, [2.0]) == pytest.approx(0, abs=0.05)
    for scores, variances in (([1.0, 1.0], [0.1]), ([1.0], [0.1]), ([1.0, 2.0], [])):
        with pytest.raises(UsageError, match="rows that differ"):
            reliability(scores, variances)
