"""`lobe check-backbone`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, ContainerOption, DataOption, LayoutOption
from benchmark.cli.show import err, out, plain, print_json, show_rows


@app.command("check-backbone")
def check_backbone(
    backbone: Annotated[str, typer.Argument(help="SOURCE:MODEL[@WEIGHTS], CARD[@FILE] or file.py:function.")],
    container: ContainerOption = None,
    layout: LayoutOption = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="PNG of the feature maps on a generated radiograph.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Also score this task under both normalisations, on --data.")] = None,
    data: DataOption = [],  # noqa: B006
    limit: Annotated[int, typer.Option("--limit", min=8, help="Images per split for --task.")] = 64,
    cache: CacheOption = None,
    as_json: AsJson = False,
) -> None:
    """Contract, checkpoint account, cost, warnings and a picture of one backbone, before anything is run."""
    from benchmark.check_backbone import check
    from benchmark.encoders.naming import with_choices

    (backbone,) = with_choices([backbone], container=container, layout=layout)
    found = check(backbone, cache, picture, task, tuple(data), limit)
    if as_json:
        from dataclasses import asdict

        own = found.normalisation and found.normalisation.model_dump(mode="json")
        print_json({**asdict(found), "normalisation": own, "picture": found.picture and str(found.picture)})
    else:
        _show_checked(found)
    if found.fault:
        raise typer.Exit(1)


def _show_checked(found) -> None:
    kind = "random initialisation" if found.random else "weights loaded" if found.account else "weights of its own code"
    out.print(f"[bold]{plain(found.label)}[/] · {kind} · contract {'[red]broken[/]' if found.fault else 'kept'}")
    if found.fault:
        err.print(plain(found.fault), soft_wrap=True)
        return
    if found.account_table:
        out.print(plain(found.account_table))
    show_rows([vars(level) for level in found.levels], False, ("stride", "channels", "side"))
    own = f"mean {found.normalisation.mean}, std {found.normalisation.std}" if found.normalisation else "none"
    memory = "" if found.peak_bytes is None else f", {found.peak_bytes / 2**20:.0f} MiB at its peak"
    out.print(
        f"{found.parameters:,} parameters; per image of 224 px: {found.macs / 1e9:.2f} GMAC, {found.seconds * 1000:.0f} ms here{memory},"
    )
    out.print(f"{found.feature_bytes / 2**20:.1f} MiB of features. Own normalisation: {own}.")
    out.print(f"Made for images of {found.input_size} px; its first layer takes {found.in_channels} channel(s).")
    for rule, score in found.scores.items():
        out.print(f"  {rule}: {score * 100:.1f} (one short run: no evidence for a small difference)")
    for warning in found.warnings:
        out.print(f"[yellow]note:[/] {plain(warning)}", soft_wrap=True)
    if found.picture is not None:
        out.print(f"Feature maps: {plain(str(found.picture))}")
