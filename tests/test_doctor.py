"""What `lobe doctor` promises: a healthy installation passes, and each known failure is named with the sentence that mends it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.uid import JPEGBaseline8Bit

from benchmark import doctor
from benchmark.imaging import dicom


def distribution(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Writes the metadata of an installed package, as a wheel leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires:
        lines.append(f"Requires-Dist: {requires}")
    (info / "METADATA").write_text("\n".join(lines) + "\n\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages come before the installed ones."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def only(findings: list[doctor.Diagnosis]) -> doctor.Diagnosis:
    assert len(findings) == 1, findings
    return findings[0]


def check(name: str) -> list[doctor.Diagnosis]:
    return doctor._guarded(name, doctor.CHECKS[name])


def test_the_tested_set_of_packages_is_healthy(tmp_path: Path) -> None:
    findings = doctor.examine(cache=tmp_path)
    assert {finding.name for finding in findings} == {*doctor.CHECKS, "Disk"}
    # Disk, shared memory and devices belong to the machine, not to the packages.
    assert [f for f in findings if f.state == "error" and f.name not in ("Disk", "Devices")] == []


def test_torchvision_of_another_torch_is_named_before_it_is_imported(site: Path) -> None:
    distribution(site, "torchvision", "0.26.0", requires="torch==2.11.0")
    finding = only(check("torch"))
    assert finding.state == "error"
    assert "this torchvision belongs to torch 2.11.0" in finding.detail
    assert "torch and torchvision together" in finding.mend


def test_local_version_of_torch_is_the_same_release(site: Path) -> None:
    distribution(site, "torchvision", "0.26.0", requires="torch==2.11.0+cu130")
    assert doctor.torch_wanted_by_torchvision() == "2.11.0"


def test_missing_system_library_of_opencv_gets_both_cures(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (site / "cv2.py").write_text(f"raise ImportError({text!r})\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    finding = only(check("OpenCV"))
    assert finding.state == "error"
    assert "libGL.so.1" in finding.detail
    assert "apt install libgl1" in finding.mend
    assert "opencv-python-headless" in finding.mend


def test_two_versions_of_opencv_in_one_folder_are_a_warning(site: Path) -> None:
    distribution(site, "opencv-contrib-python", "4.10.0.84")
    finding = only(check("OpenCV"))
    assert finding.state == "warning"
    assert "opencv-contrib-python 4.10.0.84" in finding.detail


def test_a_broken_import_of_opencv_that_no_system_library_mends_is_installed_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    finding = only(check("OpenCV"))
    assert (finding.state, finding.mend) == ("error", f"{doctor.REINSTALL}.")
    assert "numpy.core.multiarray" in finding.detail


@pytest.mark.parametrize("broken", ["fails", "is wrong"])
def test_operators_of_torchvision_are_tried(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    import torch

    def nms(boxes: torch.Tensor, *_) -> torch.Tensor:
        if broken == "fails":
            raise RuntimeError("Couldn't load custom C++ ops")
        return torch.arange(len(boxes))

    assert only(check("torch")).state == "ok"
    monkeypatch.setattr(torch.ops.torchvision, "nms", nms)
    finding = only(check("torch"))
    assert finding.state == "error"
    assert ("custom C++ ops" if broken == "fails" else "kept [0, 1, 2] of a set where [0, 2] is right") in finding.detail
    assert "torch and torchvision together" in finding.mend


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 10**6))
    finding = only(check("Ray"))
    assert (finding.state, "64 MB of shared memory" in finding.detail) == ("warning", True), finding.detail
    assert "--shm-size" in finding.mend


def test_setuptools_without_pkg_resources_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    finding = only(check("setuptools"))
    assert finding.state == "error"
    assert "setuptools<82" in finding.mend


def test_missing_decoder_is_named_with_its_transfer_syntax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dicom.DECODERS, JPEGBaseline8Bit, "absent-plugin")
    finding = only(check("DICOM"))
    assert finding.state == "error"
    assert "JPEG Baseline" in finding.detail
    assert "absent-plugin" in finding.detail


def test_uncompiled_imports_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    finding = only(check("Python"))
    assert finding.state == "warning"
    assert "PYTHONDONTWRITEBYTECODE" in finding.mend


@pytest.mark.parametrize(("version", "state"), [((3, 10, 9), "error"), ((3, 11, 0), "ok"), ((3, 14, 2), "ok"), ((3, 15, 0), "error")])
def test_python_outside_the_supported_range_is_an_error(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], state: str) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert only(check("Python")).state == state


def test_one_broken_package_does_not_end_the_examination(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "mlflow.py").write_text("raise AttributeError('half an installation')\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in ("MLflow", "setuptools")})
    findings = {finding.name: finding for finding in doctor.examine(cache=site)}
    assert findings["MLflow"].state == "error"
    assert "AttributeError: half an installation" in findings["MLflow"].detail
    assert findings["setuptools"].state == "ok"
    assert "Disk" in findings


@pytest.mark.parametrize("broken", [ImportError("no such module"), OSError("disk gone"), AssertionError("half an installation")])
def test_any_error_of_a_check_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception) -> None:
    def fail():
        raise broken

    monkeypatch.setattr(doctor, "CHECKS", dict.fromkeys(doctor.CHECKS, fail))
    findings = [finding for finding in doctor.examine(cache=tmp_path) if finding.name != "Disk"]
    assert [finding.name for finding in findings] == list(doctor.CHECKS)
    assert {finding.state for finding in findings} == {"error"}
    assert all(str(broken) in finding.detail and doctor.REINSTALL in finding.mend for finding in findings)


def test_examining_a_cache_folder_does_not_create_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {})
    cache = tmp_path / "not" / "yet"
    finding = only(doctor.examine(cache))
    assert str(cache) in finding.detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("needed", "comfortable", "state"), [(0, 0, "ok"), (0, 10**18, "warning"), (10**18, 10**18, "error")], ids=["wide", "tight", "full"]
)
def test_disk_is_judged_by_what_the_datasets_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int, comfortable: int, state: str
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(doctor, "CACHE_NEEDED_BYTES", needed)
    monkeypatch.setattr(doctor, "CACHE_COMFORTABLE_BYTES", comfortable)
    finding = only(doctor.examine(tmp_path))
    assert finding.state == state
    assert bool(finding.mend) == (state != "ok")


def test_cache_folder_below_a_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {})
    (tmp_path / "file").touch()
    finding = only(doctor.examine(tmp_path / "file" / "cache"))
    assert finding.state == "error"
    assert "--cache" in finding.mend
