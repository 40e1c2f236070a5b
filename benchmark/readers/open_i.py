"""Open-I (Indiana University chest X-rays): one XML file a report, pictures named in it. The first picture of each report stands for it.

The view is not in the XML, so the first picture is usually, but not certainly, frontal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.readers.base import Check
from benchmark.readers.kit.checks import first_image_check, release_checks
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits, only_tested, require_rule
from benchmark.readers.kit.tables import locate
from benchmark.readers.kit.text import read_xml
from benchmark.readers.kit.walk import files_in, find_files

REPORTS = "ecgen-radiology"
RULE, PRETRAINING = "all reports", "pretraining"
SECTIONS = ("FINDINGS", "IMPRESSION")


@dataclass(frozen=True)
class ReportFile:
    """One XML file: its id, the stems of its pictures in order, and of findings and impression what is not empty, in this order."""

    id: str
    images: tuple[str, ...]
    sections: dict[str, str]

    @property
    def text(self) -> str:
        return " ".join(self.sections.values())


class DatasetReader(ImageReader):
    """Open-I's reports with a picture. Ids are report ids such as CXR10; patients are unknown."""

    def open(self) -> None:
        folder = self.folder_with(REPORTS) / REPORTS
        self.tables = tuple(sorted(files_in(folder, ".xml"), key=lambda path: (len(path.stem), path.stem)))
        if not self.tables:
            raise DataError(f"{self.card.name}: {folder} holds no XML file. Unpack NLMCXR_reports.tgz again.")
        self._reports = {report.id: report for report in (read_report(path, self.card.name) for path in self.tables)}
        pictures = find_files(self.root, ".png")
        first = {report.id: report.images[0] for report in self._reports.values() if report.images}
        if not set(first.values()) & pictures.keys():
            raise DataError(f"{self.card.name}: no picture of any report is in {self.root}. Unpack NLMCXR_png.tgz there.")
        # A report is found more easily among fewer: with half of the pictures the same backbone would score higher.
        paths = locate(first.values(), pictures, self.card.name, REPORTS)
        self.images = {i: paths[name] for i, name in first.items()}  # by number of the report
        self.release = "XML reports and PNG images"

    def report_of(self, sample_id: str) -> str:
        return self._reports[sample_id].text

    def sections_of(self, sample_id: str) -> dict[str, str]:
        """Findings and impression apart, those that the report has."""
        return {name.lower(): text for name, text in self._reports[sample_id].sections.items()}

    def split(self, rule: SplitRule) -> Splits:
        """Every report with a picture and findings or an impression: the release has no split.

        `all reports`: they are tested on. `pretraining`: backbones are pretrained on them, and have then seen all that is tested on.
        """
        require_rule(rule, (RULE, PRETRAINING), dataset=self.card.name)
        found = tuple(i for i in self.images if self._reports[i].text)
        return {"train": found, "validation": (), "test": ()} if rule.rule == PRETRAINING else only_tested(found)

    def checks(self) -> Iterable[Check]:
        counts = {
            "reports": len(self._reports),
            "images": len(self.images),
            "listed_images": sum(len(report.images) for report in self._reports.values()),
        }
        yield from release_checks(self, counts, "Is the download complete and unpacked?")
        yield first_image_check(self)


def read_report(path: Path, dataset: str) -> ReportFile:
    """One XML file. An element may be empty; a report may have no picture.

    Raises:
        DataError: not such a file, or one that declares entities, which no file of the release does.
    """
    tree = read_xml(path, dataset, "report")
    named = tree.find(".//uId")
    if named is None or not named.get("id"):
        raise DataError(f"{dataset}: {path.name} has no uId, which names the report.")
    found = {element.get("Label", "").upper(): " ".join((element.text or "").split()) for element in tree.iter("AbstractText")}
    images = tuple(element.get("id", "") for element in tree.iter("parentImage"))
    return ReportFile(named.get("id", ""), images, {name: found[name] for name in SECTIONS if found.get(name)})
