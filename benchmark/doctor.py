"""Looks at the machine LOBE stands on: what works, what does not, and the sentence that mends it.

Nothing is changed, started or downloaded here. Each check imports what it examines inside itself, so that one broken package is one
finding and not the end of the examination.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark import extras, resolve
from benchmark.machine import usable_cores

# A frame of 224 x 224 is 50 kB: LoVT's five datasets, some 49,000 images, take 2.5 GB. One ResNet-50's features of RSNA take 11 GB more.
CACHE_NEEDED_BYTES = 3 * 10**9
CACHE_COMFORTABLE_BYTES = 20 * 10**9
# Ray keeps shared objects there; a container's default of 64 MB sends them to the disk.
SHARED_MEMORY_BYTES = 10**9

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)  # as pyproject.toml and the Makefile say
REINSTALL = "`make` installs the versions LOBE is tested with"


@dataclass(frozen=True)
class Diagnosis:
    """One line of `lobe doctor`: what was looked at, what was found, and what to do about it ("" where nothing is to do)."""

    name: str
    state: Literal["ok", "warning", "error"]
    detail: str
    mend: str = ""


def examine(cache: Path | None = None) -> list[Diagnosis]:
    """Examines Python, packages, devices and disk. Takes some ten seconds, nearly all of it imports.

    Args:
        cache: folder of decoded images and features; None = $LOBE_CACHE or the user's cache folder. It need not exist and is not created.

    Returns:
        Findings in the order of the checks, at least one for each. A check that itself fails is a finding with state "error".
    """
    checks = {**CHECKS, "Disk": lambda: _disk(cache)}
    return [finding for name, check in checks.items() for finding in _guarded(name, check)]


def _guarded(name: str, check: Callable[[], Iterator[Diagnosis]]) -> list[Diagnosis]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(check())
    except ImportError as error:
        if (extra := extras.brought_by(error)) is not None:
            return [Diagnosis(name, "warning", f"{error.name} is not installed", extras.cure(extra))]
        return [Diagnosis(name, "error", f"cannot be imported: {error}", f"{REINSTALL}.")]
    except Exception as error:  # a broken package may raise anything at import
        return [Diagnosis(name, "error", f"{type(error).__name__}: {error}", f"{REINSTALL}.")]


def _python() -> Iterator[Diagnosis]:
    version = "{}.{}.{}".format(*sys.version_info[:3])
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        fitting = "{}.{} to {}.{}".format(*OLDEST_PYTHON, *NEWEST_PYTHON)
        yield Diagnosis("Python", "error", f"{version}; LOBE runs on {fitting}", "Make a new environment: `make PYTHON=python3.12`.")
        return
    if sys.dont_write_bytecode:
        yield Diagnosis(
            "Python",
            "warning",
            f"{version}, told not to keep compiled imports: every process and every Ray worker starts several times slower",
            "`unset PYTHONDONTWRITEBYTECODE`.",
        )
        return
    yield Diagnosis("Python", "ok", version)


def _torch() -> Iterator[Diagnosis]:
    installed = {name: importlib.metadata.version(name) for name in ("torch", "torchvision")}
    detail = ", ".join(f"{name} {version}" for name, version in installed.items())
    wanted = torch_wanted_by_torchvision()
    if wanted is not None and wanted != _release(installed["torch"]):
        yield Diagnosis("torch", "error", f"{detail} is no pair: this torchvision belongs to torch {wanted}", _PAIR)
        return
    import torch

    try:
        import torchvision  # noqa: F401  registers the operators

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1], [4.0, 4.0, 5.0, 5.0]])
        kept = torch.ops.torchvision.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except RuntimeError as error:
        yield Diagnosis("torch", "error", f"{detail}: {error}", _PAIR)
        return
    if kept != [0, 2]:
        yield Diagnosis("torch", "error", f"{detail}: non-maximum suppression kept {kept} of a set where [0, 2] is right", _PAIR)
        return
    yield Diagnosis("torch", "ok", detail)


_PAIR = f"{REINSTALL}; by hand, install torch and torchvision together, for example 2.15 with 0.29 or 2.11 with 0.26."


def torch_wanted_by_torchvision() -> str | None:
    """The torch release the installed torchvision was built for ("2.15.0"), from its metadata; None when it names none."""
    for requirement in importlib.metadata.requires("torchvision") or ():
        name, equals, version = requirement.partition(";")[0].partition("==")
        if equals and name.strip() == "torch":
            return _release(version.strip())
    return None


def _release(version: str) -> str:
    return version.partition("+")[0]


def _devices() -> Iterator[Diagnosis]:
    import torch

    if not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version")
        if driver.exists() and torch.version.cuda is None:
            yield Diagnosis(
                "Devices",
                "warning",
                "an NVIDIA driver, but a torch built without CUDA",
                "Install the CUDA build of the same torch version.",
            )
        elif driver.exists():
            yield Diagnosis(
                "Devices",
                "warning",
                f"an NVIDIA driver that torch (CUDA {torch.version.cuda}) cannot use",
                "Compare the driver's CUDA version in `nvidia-smi` with torch's; in a container, start it with `--gpus all`.",
            )
        else:
            yield Diagnosis("Devices", "ok", f"no GPU; jobs run on {usable_cores()} CPU cores")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        detail = f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        try:
            torch.ones(2, 2, device=f"cuda:{index}").sum().item()
        except RuntimeError as error:
            first_line = str(error).partition("\n")[0]
            mend = "The device may be taken by another process, or be older than this torch supports: see `nvidia-smi`."
            yield Diagnosis("Devices", "error", f"{detail}: {first_line}", mend)
        else:
            yield Diagnosis("Devices", "ok", detail)


def _setuptools() -> Iterator[Diagnosis]:
    version = importlib.metadata.version("setuptools")
    if importlib.util.find_spec("pkg_resources") is None:
        mend = 'mmengine still imports pkg_resources: `uv pip install "setuptools<82"`.'
        yield Diagnosis("setuptools", "error", f"{version} has no pkg_resources", mend)
        return
    yield Diagnosis("setuptools", "ok", f"{version}, with pkg_resources")


def _mmdet() -> Iterator[Diagnosis]:
    # Everything of mmdet that a head takes; all of mmdet imports far more, and nothing here needs it.
    from benchmark.heads.networks import faster_rcnn, mmcv_ops, yolov3  # noqa: F401  mmcv_ops first: operators that mmdet looks for

    served_by = mmcv_ops.install()
    import mmcv
    import mmdet
    import mmengine

    operators = {"compiled": "mmcv's compiled operators", "torchvision": "torchvision's operators stand in for mmcv's compiled ones"}
    versions = f"mmdet {mmdet.__version__}, mmcv {mmcv.__version__}, mmengine {mmengine.__version__}"
    yield Diagnosis("mmdet", "ok", f"{versions}; {operators[served_by]}")


def _opencv() -> Iterator[Diagnosis]:
    distributions = _installed("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    owners = ", ".join(f"{name} {version}" for name, version in distributions.items())
    headless = (
        "`uv pip uninstall opencv-python opencv-python-headless && uv pip install --no-deps opencv-python-headless` "
        "leaves the build without windows"
    )
    try:
        import cv2
    except ImportError as error:
        if extras.brought_by(error) is not None:
            raise
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            mend = f"`apt install libgl1 libglib2.0-0`; or {headless}."
        else:
            mend = f"{REINSTALL}."
        yield Diagnosis("OpenCV", "error", f"{owners or 'not installed'}: {error}", mend)
        return
    if len(set(distributions.values())) > 1:
        # All of them write into one folder `cv2`: files of two versions lie there side by side.
        yield Diagnosis("OpenCV", "warning", f"several versions share one folder: {owners}; {cv2.__version__} answers", f"{headless}.")
        return
    yield Diagnosis("OpenCV", "ok", owners)


def _dicom() -> Iterator[Diagnosis]:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    from benchmark.imaging.dicom import DECODERS, decoder_versions

    missing = []
    for syntax, plugin in DECODERS.items():
        # Uncompressed syntaxes need no plugin, and pydicom lists none for them.
        if UID(syntax).is_encapsulated and plugin not in get_decoder(syntax).available_plugins:
            missing.append((UID(syntax).name, plugin))
    for syntax_name, plugin in missing:
        mend = f"Images of this transfer syntax are refused, since another decoder would give other grey levels. {REINSTALL}."
        yield Diagnosis("DICOM", "error", f"{syntax_name}: its decoder {plugin!r} is not installed", mend)
    if not missing:
        versions = ", ".join(f"{name} {version}" for name, version in decoder_versions().items())
        yield Diagnosis("DICOM", "ok", f"a decoder for each of {len(DECODERS)} transfer syntaxes ({versions})")


def _imaging() -> Iterator[Diagnosis]:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import skimage  # noqa: F401  whether it can be imported is the question

    of_skimage = importlib.metadata.version("scikit-image")
    yield Diagnosis("Transforms", "ok", f"albumentations {albumentations.__version__}, scikit-image {of_skimage}")


def _ray() -> Iterator[Diagnosis]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    shared = Path("/dev/shm")
    free_bytes = shutil.disk_usage(shared).free if shared.is_dir() else SHARED_MEMORY_BYTES
    if free_bytes < SHARED_MEMORY_BYTES:
        detail = f"{ray.__version__}; {_size(free_bytes)} of shared memory, so objects go to the disk"
        yield Diagnosis("Ray", "warning", detail, "In a container: `docker run --shm-size=2g`.")
        return
    yield Diagnosis("Ray", "ok", ray.__version__)


def _mlflow() -> Iterator[Diagnosis]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    yield Diagnosis("MLflow", "ok", mlflow.__version__)


def _disk(cache: Path | None) -> Iterator[Diagnosis]:
    folder = resolve.cache_folder(cache)
    standing = folder
    while not standing.exists():
        standing = standing.parent
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        yield Diagnosis("Disk", "error", f"the cache folder {folder} cannot be written", "Name another one with `--cache`.")
        return
    free_bytes = shutil.disk_usage(standing).free
    detail = f"{_size(free_bytes)} free for the cache in {folder}"
    if free_bytes < CACHE_NEEDED_BYTES:
        need = f"the five datasets need {_size(CACHE_NEEDED_BYTES)}"
        yield Diagnosis("Disk", "error", f"{detail}; {need}", "Free some, or name a larger disk with `--cache`.")
    elif free_bytes < CACHE_COMFORTABLE_BYTES:
        mend = f"{_size(CACHE_COMFORTABLE_BYTES)} holds a large backbone's features as well; a larger disk goes with `--cache`."
        yield Diagnosis("Disk", "warning", detail, mend)
    else:
        yield Diagnosis("Disk", "ok", detail)


CHECKS: dict[str, Callable[[], Iterator[Diagnosis]]] = {
    "Python": _python,
    "torch": _torch,
    "Devices": _devices,
    "setuptools": _setuptools,
    "mmdet": _mmdet,
    "OpenCV": _opencv,
    "DICOM": _dicom,
    "Transforms": _imaging,
    "Ray": _ray,
    "MLflow": _mlflow,
}


def _installed(*names: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 10**9:.1f} GB" if n_bytes >= 10**9 else f"{n_bytes / 10**6:.0f} MB"
