"""The page of what went wrong or must be known of the whole: refused records, failures, and what splits shared."""

from __future__ import annotations

from benchmark.report import addresses, provenance
from benchmark.report.escape import one_line
from benchmark.report.material import Material
from benchmark.report.shell import Shell


def write(shell: Shell, material: Material) -> None:
    shell.render(
        "records.html",
        "records.html.j2",
        heading="Records",
        phantom=any(row.phantom for row in material.rows),
        limited=any(row.scale == "limited" for row in material.rows),
        refused=material.refused,
        failures=[provenance.failure(record) | {"page": _page(record)} for record in material.failures],
        audits=provenance.audits(material.records),
        backbones=[(name, addresses.backbone_page(name), len(members)) for name, members in material.by_backbone.items()],
    )


def _page(record) -> str:
    return f"{addresses.backbone_page(one_line(record.job.labels.backbone))}#job={record.key}"
