"""What pages load beside their data: style, scripts, the table component and plotly. All lie in the folder: no network is needed.

The table component is DataTables, as the package `itables` ships it. Its bundle is a module, which no browser loads from `file://`; here it
becomes a classic script that leaves `DataTable` behind.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.report.addresses import ASSETS
from benchmark.report.pages import environment, write_page

SCRIPTS = ("core.js", "tables.js", "figures.js", "jobs.js", "curves.js", "compare.js")
TABLES, PLOTLY, STYLE = "datatables.js", "plotly.min.js", "lobe.css"
_EXPORT = re.compile(r"export\s*\{([^}]*)\}\s*;?")
_DEFAULT = re.compile(r"([\w$]+)\s+as\s+default\b")


def write(report: Path) -> list[Path]:
    """Writes `assets/` of a site and returns its files."""
    folder = report / ASSETS
    written = [write_page(folder / STYLE, environment().get_template("style.css.j2").render())]
    written += [write_page(folder / name, _own(name)) for name in SCRIPTS]
    written.append(write_page(folder / TABLES, _tables()))
    with resources.as_file(resources.files("plotly") / "package_data" / PLOTLY) as path:
        shutil.copyfile(path, folder / PLOTLY)
    return [*written, folder / PLOTLY]


def classic_script(module: str) -> str:
    """The module as a script that sets `DataTable` to its default export.

    Raises:
        UsageError: it does not end in one export with a default: another release of the package.
    """
    found = _EXPORT.findall(module)
    default = _DEFAULT.search(found[0]) if len(found) == 1 else None
    if default is None:
        raise UsageError("itables ships a bundle that LOBE does not know; install the version that constraints.txt names.")
    return "(() => {\n" + _EXPORT.sub(lambda _: f"globalThis.DataTable = {default[1]};", module) + "\n})();\n"


def _own(name: str) -> str:
    return (resources.files("benchmark.report") / "templates" / ASSETS / name).read_text(encoding="utf-8")


@cache
def _tables() -> str:
    spec = find_spec("itables")  # found, not imported: it would load what notebooks need
    if spec is None or spec.origin is None:
        raise UsageError("The package itables, which ships the tables of a page, is not installed.")
    return classic_script((Path(spec.origin).parent / "html" / "dt_bundle.js").read_text(encoding="utf-8"))
