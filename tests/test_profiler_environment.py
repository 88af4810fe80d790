from pathlib import Path

import pytest

from jmsnas.profiler.environment import cpu_model, describe_host, environment_name, host_is


def board(root: Path, model: str) -> Path:
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/model").write_bytes(model.encode() + b"\0")
    return root


def processor(root: Path, name: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\nmodel name\t: {name}\n")
    return root


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "pi4"),
        ("NVIDIA Jetson AGX Xavier Developer Kit", "jetson"),
        ("Jetson-AGX Xavier", "jetson-cpu"),
    ],
)
def test_board_names_the_device(tmp_path: Path, model: str, device: str) -> None:
    root = board(tmp_path, model)
    assert host_is(device, root)
    assert not any(host_is(other, root) for other in {"pi4", "jetson"} - {device.removesuffix("-cpu")})


def test_jetson_by_its_release_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R35 (release)")
    assert host_is("jetson", tmp_path)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("11th Gen Intel(R) Core(TM) i7-11800H @ 2.30GHz", "laptop"),
        ("Intel(R) Xeon(R) Platinum 8280 CPU @ 2.70GHz", "cloud"),
    ],
)
def test_processor_names_the_device(tmp_path: Path, name: str, device: str) -> None:
    root = processor(tmp_path, name)
    assert cpu_model(root) == name
    assert host_is(device, root) and host_is(f"{device}-cpu", root)
    assert not host_is({"laptop": "cloud", "cloud": "laptop"}[device], root)


def test_local_is_any_host_and_the_unknown_none(tmp_path: Path) -> None:
    assert host_is("local", tmp_path)
    assert not any(host_is(name, tmp_path) for name in ("toaster", "pi4", "jetson", "laptop", "cloud"))


def test_description_of_a_made_up_host(tmp_path: Path) -> None:
    board(tmp_path, "Raspberry Pi 4 Model B")
    (tmp_path / "proc/meminfo").write_text("MemTotal:        3884264 kB\nMemFree: 1 kB\n")
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("performance\n")
    (folder / "scaling_max_freq").write_text("1800000\n")
    found = describe_host(tmp_path)
    assert found["board"] == "Raspberry Pi 4 Model B"
    assert found["memory_bytes"] == str(3884264 * 1024)
    assert (found["governor"], found["max_frequency_khz"]) == ("performance", "1800000")
    assert "min_frequency_khz" not in found


def test_description_of_this_host() -> None:
    found = describe_host()
    assert {"cores", "machine", "system", "python", "torch", "onnxruntime", "jmsnas"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
    assert describe_host() == found


def test_name_follows_the_content() -> None:
    name = environment_name({"a": "1", "b": "2"})
    assert name == environment_name({"b": "2", "a": "1"}) != environment_name({"a": "1", "b": "3"})
    assert len(name) == 12
