"""What a small installation does without: which extra of the package brings what is missing. `pyproject.toml` as data; a test compares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata

from benchmark.errors import EnvironmentProblem

DISTRIBUTION = "lobe-bench"

# Module that is imported -> the smallest extra that brings it. Parts of `run` come with every other one.
BROUGHT_BY: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "albumentations",
            "cv2",
            "huggingface_hub",
            "mlflow",
            "pydicom",
            "pylibjpeg",
            "segmentation_models_pytorch",
            "timm",
            "torch",
            "torchvision",
            "transformers",
        ),
        "run",
    ),
    **dict.fromkeys(("mmcv", "mmdet", "mmengine", "pkg_resources", "setuptools"), "detection"),
    "ray": "cluster",
}
# How the loader of Linux names a library that the system does not have.
_NO_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")


def release() -> str:
    """The version of this package, or that it runs from its folder without being installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "from its folder"


def brought_by(error: BaseException) -> str | None:
    """The extra that brings what an import did not find; None for any other error."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return BROUGHT_BY.get((name or "").partition(".")[0])


def missing(error: BaseException) -> EnvironmentProblem | None:
    """What to install, where `error` is the import of a package that is not here, or needs a library that the system lacks; else None."""
    library = _NO_LIBRARY.search(str(error)) if isinstance(error, ImportError) else None
    if library is not None:
        return EnvironmentProblem(
            f"{getattr(error, 'name', None) or 'A package'} needs the system library {library[1]}, which is not installed here. "
            "`lobe doctor` says what brings it."
        )
    extra = brought_by(error)
    if extra is None:
        return None
    return EnvironmentProblem(f"This needs {error.name}, which is not installed here. {cure(extra)}")  # type: ignore[attr-defined]


def cure(extra: str) -> str:
    return f"Install it with `pip install '{DISTRIBUTION}[{extra}]'`; `pip install '{DISTRIBUTION}[all]'` brings everything."
