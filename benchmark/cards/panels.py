"""Reference panels: which backbones one is measured from, and the frozen scale that a leaderboard version ranks by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from benchmark.cards.base import Card, Later, digest_of
from benchmark.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

Anchor = Literal["random", "imagenet", "dinov2"]
Finite = Annotated[float, Field(allow_inf_nan=False)]  # JSON's text of others is `null`, of which a checksum is as good as any


class LineupCard(Card):
    """The backbones that a panel is measured from, by the names of their cards.

    Attributes:
        suite: whose tasks are measured, under its protocol.
        backbones: trained ones that no image of the suite's tasks was used for; together they span what entrants may be.
        anchors: role -> backbone that every table shows beside the entrants. Untrained ones are measured with the panel and give no scale.
    """

    name: str
    title: str
    suite: str
    backbones: tuple[str, ...] = Field(min_length=8)
    anchors: dict[Anchor, str] = {}


@dataclass(frozen=True)
class PanelScale:
    """Scale of one task.

    Attributes:
        median, iqr: of the panel's mean scores, in the metric's unit.
        rises: higher scores are better.
    """

    median: float
    iqr: float
    rises: bool = True

    def z(self, scores: np.ndarray) -> np.ndarray:
        """Distance from the panel's median in units of its spread, positive for better; the shape of `scores`, not clipped."""
        units: np.ndarray = (scores - self.median) / self.iqr
        return units if self.rises else -units


@dataclass(frozen=True)
class Panel:
    """What a leaderboard version measures by.

    Attributes:
        by_task: task -> scale; exactly the tasks that a headline averages.
        rows: names of the reference backbones, without untrained ones.
    """

    by_task: Mapping[str, PanelScale]
    rows: tuple[str, ...]

    def only(self, tasks: Collection[str]) -> Panel:
        """The same scales for some of the tasks, as for a row that has seen the images of the others.

        Raises:
            UsageError: a task that the panel does not have.
        """
        strange = sorted(set(tasks) - set(self.by_task))
        if strange:
            raise UsageError(f"The panel has no scale for {', '.join(strange)}; it has {', '.join(self.by_task)}.")
        return Panel(MappingProxyType({task: scale for task, scale in self.by_task.items() if task in tasks}), self.rows)


class PanelTask(Card):
    """The frozen scale of one task.

    Attributes:
        metric: that was measured, as a task card reports it.
        dataset_digest: of the images and labels behind the scores.
        median, iqr, rises: as of `PanelScale`.
        reliability: share of the panel's spread that is no chance.
        task_version: of the task's card that was measured; None in panels that do not say.
    """

    metric: str
    dataset_digest: str
    median: Finite
    iqr: Finite = Field(gt=0)
    rises: bool
    reliability: Finite
    task_version: Later[int | None] = None


class PanelRow(Card):
    """A reference backbone as it was measured.

    Attributes:
        backbone: its name in tables.
        digest: of its weights.
        scores: task -> mean over runs, a fraction; also of tasks that got no scale.
        records: task -> keys of the runs behind it.
    """

    backbone: str
    digest: str
    scores: dict[str, Finite]
    records: dict[str, tuple[str, ...]]


class PanelCard(Card):
    """A reference panel frozen for a version of the leaderboard, with everything that it was computed from.

    Attributes:
        lineup: name of the line-up whose backbones the rows are, all of them or some; empty where a row is of another.
        phantom: measured on generated images, and a scale for nothing else.
        tasks: task -> scale; exactly the tasks that a headline averages.
        left_out: task -> why it has no scale.
        frozen_on: day, as 2026-01-31.
        checksum: SHA-256 of the canonical JSON of all other fields.
    """

    version: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    suite: str
    lineup: str = ""
    protocol: str
    phantom: bool
    tasks: dict[str, PanelTask]
    left_out: dict[str, str] = {}
    rows: tuple[PanelRow, ...]
    made_by: str
    frozen_on: str
    checksum: str = ""

    def as_panel(self, *, phantom: bool | None = None) -> Panel:
        """The scale that headlines are computed with.

        Args:
            phantom: whether the rows to be ranked are of generated images; None asks nothing.

        Raises:
            UsageError: a phantom panel for real rows, or a real one for phantom rows.
        """
        if phantom is not None and phantom != self.phantom:
            kinds = ("real", "phantom") if self.phantom is False else ("phantom", "real")
            raise UsageError(f"Panel {self.version} was measured on {kinds[0]} images and is no scale for rows of {kinds[1]} ones.")
        scales = {name: PanelScale(scale.median, scale.iqr, scale.rises) for name, scale in self.tasks.items()}
        return Panel(MappingProxyType(scales), tuple(row.backbone for row in self.rows))

    def sealed(self) -> PanelCard:
        """The card with the checksum of its content."""
        return self.model_copy(update={"checksum": self._content_digest()})

    @property
    def is_whole(self) -> bool:
        """Whether the content is what the checksum says."""
        return self.checksum == self._content_digest()

    def _content_digest(self) -> str:
        return digest_of(self.model_dump(mode="json", exclude={"checksum"}))
