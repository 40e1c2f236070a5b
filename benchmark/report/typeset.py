"""Boards as documents: a page of Markdown, and LaTeX for a paper. What a board holds: `tables`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmark.cards import DISCLAIMER
from benchmark.report import escape, numbers
from benchmark.report.rows import Row
from benchmark.report.tables import ANCHORS, INTERVAL, NO_RANKING, Board, Column, boards


def to_markdown(rows: Iterable[Row], *, title: str = "Leaderboard") -> str:
    """A page: disclaimer, one table per board and (dataset, head), gaps with reasons, warnings."""
    lines = [f"# {escape.markdown(title)}", "", f"> {DISCLAIMER}", "", f"{INTERVAL} {NO_RANKING}", ""]
    for board in boards(rows):
        lines += [f"## {escape.markdown(board.title)}", ""]
        for group, columns in board.groups():
            heads = [f"{escape.markdown(c.short)} ({escape.markdown(c.metric_title)})" for c in columns]
            lines += [f"### {escape.markdown(group)}", "", "| Backbone | " + " | ".join(heads) + " |"]
            lines += ["|:--|" + "--:|" * len(columns)]
            for backbone in board.backbones:
                name = escape.markdown(backbone) + (" (baseline)" if backbone in board.random_backbones else "")
                lines.append(f"| {name} | " + " | ".join(board.text(backbone, c) for c in columns) + " |")
            lines += [f"| *anchor: {escape.markdown(name)}* | " + " | ".join(texts) + " |" for name, texts in board.anchor_lines(columns)]
            lines.append("")
        if any(row.anchors for row in board.rows):
            lines += [ANCHORS, ""]
        if gaps := board.gaps():
            lines += [f"{numbers.DASH} stands for:", ""]
            lines += [f"- {escape.markdown(b)}, {escape.markdown(c.task)}: {escape.markdown(why)}." for b, c, why in gaps] + [""]
        if warnings := board.warnings():
            lines += ["Warnings:", ""]
            lines += [f"- {escape.markdown(w)} ({escape.markdown('; '.join(where))})." for w, where in warnings.items()] + [""]
    return "\n".join(lines)


def to_latex(rows: Iterable[Row]) -> str:
    """One booktabs table per board and (dataset, head); needs `\\usepackage{booktabs}`."""
    parts = [f"% {DISCLAIMER}"]
    for board in boards(rows):
        for group, columns in board.groups():
            heads = " & ".join(rf"{escape.latex(c.short)} ({escape.latex(c.metric_title)})" for c in columns)
            parts += [
                r"\begin{table}",
                rf"\caption{{{escape.latex(group)}. {escape.latex(board.title)}. {escape.latex(INTERVAL)}}}",
                rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
                r"\toprule",
                rf"Backbone & {heads} \\",
                r"\midrule",
                *(escape.latex(b) + " & " + " & ".join(escape.latex(board.text(b, c)) for c in columns) + r" \\" for b in board.backbones),
                *_latex_anchors(board, columns),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
    return "\n".join(parts) + "\n"


def _latex_anchors(board: Board, columns: Sequence[Column]) -> list[str]:
    lines = [
        rf"\textit{{anchor: {escape.latex(name)}}} & " + " & ".join(escape.latex(text) for text in texts) + r" \\"
        for name, texts in board.anchor_lines(columns)
    ]
    return [r"\midrule", *lines] if lines else []
