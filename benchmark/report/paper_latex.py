"""A reproduction as a LaTeX document that compiles as it is: a table each, no wider than the page.

Its preamble names what a table needs that is copied elsewhere: booktabs and graphicx. What stands in a table: `paper_sheets`.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.cards import DISCLAIMER
from benchmark.report import escape
from benchmark.report.paper_sheets import Line, Sheet, sheets, title
from benchmark.report.reproduce import Reproduction

_PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}"""
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def to_latex(reproduction: Reproduction) -> str:
    """The paper's tables; where a cell was measured, the measured number and the difference stand below the published one."""
    parts = [f"% {DISCLAIMER}", _PREAMBLE, ""]
    for sheet in sheets(reproduction):
        if sheet.lines:
            parts += [*_table(sheet, title(reproduction)), ""]
    return "\n".join([*parts, rf"\noindent {escape.latex(DISCLAIMER)}", r"\end{document}", ""])


def _table(sheet: Sheet, of: str) -> Iterator[str]:
    told = " ".join([f"{of}: {sheet.heading}.", *sheet.sentences])
    yield r"\begin{table}[p]"
    yield r"\centering"
    yield rf"\caption{{{escape.latex(told)}}}"
    yield _FIT
    yield rf"\begin{{tabular}}{{{'l' * len(sheet.row_heads)}{'r' * len(sheet.titles)}}}"
    yield r"\toprule"
    yield from _heads(sheet)
    yield r"\midrule"
    yield from (_line(line) for line in sheet.lines if line.kind != "margin")
    if margins := [line for line in sheet.lines if line.kind == "margin"]:
        yield r"\midrule"
        yield from map(_line, margins)
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    yield r"\end{table}"


def _heads(sheet: Sheet) -> Iterator[str]:
    """A line a level; below heads of several columns a rule."""
    n_heads = len(sheet.row_heads)
    for depth, spans in enumerate(sheet.spans):
        is_last = depth == len(sheet.spans) - 1
        cells = [escape.latex(head) if is_last else "" for head in sheet.row_heads]
        rules, column = [], n_heads + 1
        for text, width in spans:
            cells.append(escape.latex(text) if width == 1 else rf"\multicolumn{{{width}}}{{c}}{{{escape.latex(text)}}}")
            if width > 1 and not is_last:
                rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
            column += width
        yield " & ".join(cells) + r" \\"
        if rules:
            yield " ".join(rules)


def _line(line: Line) -> str:
    heads = [escape.latex(head) for head in line.heads]
    if line.kind != "published":
        heads[0] = rf"\quad\textit{{{heads[0]}}}"
    return " & ".join([*heads, *map(escape.latex, line.texts)]) + r" \\"
