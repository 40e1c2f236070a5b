"""What a small installation does without: which extra of the package brings what is missing. `pyproject.toml` as data; a test compares."""

from __future__ import annotations

from collections.abc import Mapping

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


def brought_by(error: BaseException) -> str | None:
    """The extra that brings what an import did not find; None for any other error."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return BROUGHT_BY.get((name or "").partition(".")[0])


def missing(error: BaseException) -> EnvironmentProblem | None:
    """What to install, where `error` is the import of a package that an extra brings; None for any other error."""
    extra = brought_by(error)
    if extra is None:
        return None
    return EnvironmentProblem(f"This needs {error.name}, which is not installed here. {cure(extra)}")  # type: ignore[attr-defined]


def cure(extra: str) -> str:
    return f"Install it with `pip install '{DISTRIBUTION}[{extra}]'`; `pip install '{DISTRIBUTION}[all]'` brings everything."
