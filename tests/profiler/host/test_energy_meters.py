import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_hosts import write
from synthetic_meters import RAPL, meter_of, rapl

from jmsnas.profiler.timing.energy import find_meter

CHECK = "Check that nvidia-smi shows the GPU"


def test_packages_are_summed_and_other_domains_left_out(tmp_path: Path) -> None:
    rapl(tmp_path, "0", "package-0", 1_000_000)
    rapl(tmp_path, "0:0", "core", 5_000_000)
    rapl(tmp_path, "0:1", "dram", 5_000_000)
    rapl(tmp_path, "1", "package-1", 2_000_000)
    rapl(tmp_path, "2", "psys", 9_000_000)
    meter = meter_of("cpu", tmp_path)
    assert meter.name == "RAPL package-0, package-1" and "memory" in meter.counts
    before = meter.read_j()
    for domain, uj in {"0": 1_500_000, "0:0": 8_000_000, "0:1": 8_000_000, "1": 2_250_000, "2": 99}.items():
        write(tmp_path, {f"{RAPL % domain}/energy_uj": uj})
    assert meter.read_j() - before == pytest.approx(0.75)


@given(st.lists(st.integers(0, 999_999), max_size=20))
def test_wrap_keeps_counting(steps_uj: list[int]) -> None:
    with TemporaryDirectory() as folder:
        root, sum_uj = Path(folder), 999_000
        rapl(root, "0", "package-0", sum_uj, range_uj=1_000_000)
        meter = meter_of("cpu", root)
        for step_uj in steps_uj:
            sum_uj += step_uj
            write(root, {f"{RAPL % '0'}/energy_uj": sum_uj % 1_000_000})
            assert meter.read_j() == pytest.approx((sum_uj - 999_000) * 1e-6)


def test_reading_that_fails_on_the_way_is_nan_and_loses_nothing(tmp_path: Path) -> None:
    rapl(tmp_path, "0", "package-0", 0)
    meter, file = meter_of("cpu", tmp_path), f"{RAPL % '0'}/energy_uj"
    write(tmp_path, {file: "no number"})
    assert math.isnan(meter.read_j())
    (tmp_path / file).unlink()
    assert math.isnan(meter.read_j())
    write(tmp_path, {file: 3_000_000})
    assert meter.read_j() == pytest.approx(3.0)


@contextmanager
def not_root() -> Iterator[None]:
    """Do without root's right to read everything."""
    was = os.geteuid()
    os.seteuid(65534 if was == 0 else was)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.skipif(sys.platform == "win32", reason="no owners of files")
def test_rapl_for_root_only_names_the_command() -> None:
    # Not tmp_path: its parents are for its owner only, who may be root.
    with TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        rapl(root, "0", "package-0", 0)
        (root / (RAPL % "0") / "energy_uj").chmod(0o000)
        with not_root():
            why = str(find_meter("cpu", root))
    command = f"sudo chmod a+r {root}/sys/class/powercap/intel-rapl:?/energy_uj"
    assert why == f"no meter: RAPL is readable by root only. Run: {command}"


def test_rapl_without_its_range_says_what_is_missing(tmp_path: Path) -> None:
    rapl(tmp_path, "0", "package-0", 0)
    (tmp_path / (RAPL % "0") / "max_energy_range_uj").unlink()
    found = str(find_meter("cpu", tmp_path))
    assert found.startswith("no meter: RAPL cannot be read (") and "max_energy_range_uj" in found


class NvmlError(Exception):
    pass


def nvml(cards: dict[str, int | None]) -> SimpleNamespace:
    """Make pynvml of a host with GPUs of such UUIDs, and their energy in mJ; None where it is not counted."""

    def total(uuid: str) -> int:
        if (energy_mj := cards[uuid]) is None:
            raise NvmlError("Not Supported")
        return energy_mj

    def by_uuid(uuid: str) -> str:
        if uuid not in cards:
            raise NvmlError("Not Found")
        return uuid

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda index: list(cards)[index],
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetName=lambda uuid: f"NVIDIA {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=total,
    )


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(found))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


def test_nvml_counts_millijoules(tmp_path: Path, cards: dict[str, int | None]) -> None:
    cards["GPU-a"] = 5_000
    meter = meter_of("cuda", tmp_path)
    assert meter.name == "NVML NVIDIA GPU-a" and meter.read_j() == pytest.approx(5)
    cards["GPU-a"] = 7_500
    assert meter.read_j() == pytest.approx(7.5)
    cards["GPU-a"] = None
    assert math.isnan(meter.read_j())


def test_nvml_that_does_not_count_says_so(tmp_path: Path, cards: dict[str, int | None]) -> None:
    cards["GPU-a"] = None
    assert find_meter("cuda", tmp_path) == f"no meter: NVML reports Not Supported. {CHECK}"


def test_of_several_gpus_the_one_that_cuda_sees(
    tmp_path: Path, cards: dict[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards.update({"GPU-a": 1_000, "GPU-b": 2_000})
    assert "Run: export CUDA_VISIBLE_DEVICES=GPU-..." in str(find_meter("cuda", tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "several GPUs" in str(find_meter("cuda", tmp_path)), "CUDA's order is not NVML's"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a")
    assert meter_of("cuda", tmp_path).read_j() == pytest.approx(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c")
    assert find_meter("cuda", tmp_path) == f"no meter: NVML reports Not Found. {CHECK}"


def test_nvml_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = str(find_meter("cuda", tmp_path))
    assert found == "no meter: nvidia-ml-py is not installed. Run: pip install 'jmsnas[power]'"
