"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
DataOption = Annotated[
    list[str], typer.Option("--data", help="Root folder with one folder per dataset, or NAME=PATH. Default: $LOBE_DATA.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Output folder: records, predictions, tracking, report.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="A split of the dataset's card. Default: the task card's.")]
SplitsOption = Annotated[
    Path | None, typer.Option("--splits", help="Folder with split lists in LoVT's format, one sub-folder per dataset, instead of a rule.")
]
ContainerOption = Annotated[
    str | None, typer.Option("--container", help="Which set of weights, in a file that holds several: state_dict_ema, teacher, ...")
]
LayoutOption = Annotated[str | None, typer.Option("--layout", help="How the weights file names its tensors, like prefix:encoder_q.")]
SubmissionsOption = Annotated[
    Path | None, typer.Option("--submissions", help="Folder with accepted submissions. Default: those of LOBE itself.")
]
CacheOption = Annotated[Path | None, typer.Option("--cache", help="Folder of caches. Default: $LOBE_CACHE or the user's cache folder.")]


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    """The value, which must be one of those allowed; anything else ends the verb with the option's name and the choices."""
    if value not in allowed:
        raise typer.BadParameter(f"{value!r}: choose one of {', '.join(allowed)}.", param_hint=option)
    return value
