"""Whatever a record says, on no page is it more than text, in no file a formula, and in no script an end of it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmark.cards import Failure
from benchmark.report.site import write_site
from benchmark.shelf import Refused
from tests.report.test_site import Elements, data_of, pages_of

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;img src=x onerror=alert(1)&gt;&amp;",
    "&#60;img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><svg onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</select></option><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "${alert(1)}`+alert(1)+`",
    "\\');alert(1)//",
    "\u2028alert(1)\u2029",
    "../../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-1-cmd",
    "@SUM(1)",
    "a\r\nSet-Cookie: x",
    "\x00\x1b[31m",
    "\u202etxt.exe",
)
ALLOWED_TAGS = {
    *("html", "head", "meta", "title", "link", "body", "script", "header", "footer", "main", "nav", "aside", "section", "dialog", "form"),
    *(
        "a",
        "p",
        "span",
        "strong",
        "em",
        "code",
        "small",
        "sup",
        "h1",
        "h2",
        "h3",
        "ul",
        "li",
        "dl",
        "dt",
        "dd",
        "div",
        "details",
        "summary",
        "br",
    ),
    *("table", "thead", "tbody", "tfoot", "tr", "th", "td", "label", "input", "select", "option", "button", "fieldset", "legend"),
    *("figure", "figcaption", "svg", "path"),
}


@pytest.fixture(scope="module")
def site(make, tmp_path_factory) -> Path:
    """One site in which every text of every record is a payload."""
    records = []
    for number, payload in enumerate(PAYLOADS):
        plain = make.job(digest=f"{number:064x}", backbone=payload, protocol=payload)
        labels = plain.labels.model_copy(
            update={
                "task": payload,
                "task_title": payload,
                "suite": payload,
                "fraction_text": payload,
                "encoder_text": payload,
                "metric_title": payload,
                "custom": (payload,),
            }
        )
        dataset = plain.experiment.dataset.model_copy(update={"name": payload, "split": payload, "partial": payload})
        backbone = plain.experiment.backbone.model_copy(update={"family": payload, "model": payload})
        update = {"dataset": dataset, "backbone": backbone, "head": payload, "select": payload, "report": payload}
        job = plain.model_copy(update={"labels": labels, "experiment": plain.experiment.model_copy(update=update)})
        said = {
            "environment": {payload: payload, "device": payload},
            "warnings": (payload,),
            "finished_at": payload,
            "account": {payload: 1},
            "anchors": {payload: {payload: 0.1}},
            "sample_digests": {"test": payload},
            "timings_s": {payload: 1.0},
        }
        whole = make.record(0.1, job=plain)
        records.append(whole.model_copy(update={"job": job, "key": job.key, "metrics": {payload: 0.1}, **said}))
        second = job.experiment.model_copy(update={"head_seed": 9})
        failed = job.model_copy(update={"labels": labels.model_copy(update={"run": 1}), "experiment": second})
        broken = Failure(kind=payload, sentence=payload, traceback=payload)
        records.append(whole.model_copy(update={"job": failed, "key": failed.key, "status": "failed", "metrics": {}, "failure": broken}))
    refused = [Refused(payload, payload) for payload in PAYLOADS]
    return write_site(records, tmp_path_factory.mktemp("hostile"), title=PAYLOADS[0], refused=refused).parent


def test_no_page_has_an_element_or_a_handler_that_a_record_made(site: Path):
    pages = pages_of(site)
    assert len(pages) > 3 * len(PAYLOADS) / 2
    for name, text in pages.items():
        for tag, attrs in Elements(text).tags:
            assert tag in ALLOWED_TAGS or (tag, name) == ("style", "papers.html"), (name, tag)  # which stands without the site's files
            assert not [attribute for attribute in attrs if attribute.startswith("on") or attribute in ("autofocus", "style", "srcdoc")], (
                name
            )
            for attribute in ("href", "src"):
                assert not attrs.get(attribute, "").lower().startswith(("javascript:", "data:", "//", "http")), (name, attrs)
            if tag == "script":
                assert set(attrs) == {"src", "defer"}


def test_what_a_table_component_reads_as_markup_is_a_number(site: Path):
    for name, text in pages_of(site).items():
        for _, attrs in Elements(text).tags:
            for attribute in ("data-order", "data-half", "data-search", "data-sort", "data-filter"):
                value = attrs.get(attribute)
                if value and attribute != "data-filter":
                    float(value)
                elif value:
                    assert value in {"pretraining", "licence", "size", "trust", "seen", "dataset", "head", "encoder", "labels"}, name


def test_no_data_file_holds_a_letter_that_could_end_its_script(site: Path):
    assert data_of(site)
    for path in (site / "data").rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert text.isascii()
        assert not set("<>&'") & set(text), path.name


def test_no_cell_of_a_file_runs_as_a_formula(site: Path):
    for path in site.glob("*.csv"):
        for line in csv.reader(path.open(encoding="utf-8", newline="")):
            for cell in line:
                if cell[:1] in ("=", "+", "-", "@"):
                    float(cell)
                assert "\n" not in cell
                assert "\r" not in cell


def test_every_file_lies_in_the_site_and_has_a_safe_name(site: Path):
    names = [path.relative_to(site).as_posix() for path in site.rglob("*")]
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-./_") for name in names)
    assert not [name for name in names if "passwd" in name and "/etc/" in name]


def test_markdown_holds_no_markup(site: Path):
    assert "<" not in (site / "leaderboard.md").read_text(encoding="utf-8").replace("&lt;", "")
