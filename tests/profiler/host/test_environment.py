from pathlib import Path

import pytest

from jmsnas.profiler.host.environment import cpu_model, describe_host, environment_id, is_this_host


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


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
    assert is_this_host(device, root)
    assert not any(is_this_host(other, root) for other in {"pi4", "jetson"} - {device.removesuffix("-cpu")})


def test_jetson_by_its_release_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R35 (release)")
    assert is_this_host("jetson", tmp_path)


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
    assert is_this_host(device, root) and is_this_host(f"{device}-cpu", root)
    assert not is_this_host({"laptop": "cloud", "cloud": "laptop"}[device], root)


def test_local_is_any_host_and_the_unknown_none(tmp_path: Path) -> None:
    assert is_this_host("local", tmp_path)
    assert not any(is_this_host(name, tmp_path) for name in ("toaster", "pi4", "jetson", "laptop", "cloud"))


def test_description_of_a_synthetic_host(tmp_path: Path) -> None:
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
    name = environment_id({"a": "1", "b": "2"})
    assert name == environment_id({"b": "2", "a": "1"}) != environment_id({"a": "1", "b": "3"})
    assert len(name) == 12


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        ("0x41", "0xd08", "Cortex-A72"),  # Raspberry Pi 4
        ("0x4e", "0x004", "NVIDIA Carmel"),  # Jetson AGX Xavier
        ("0x61", "0x022", "Arm implementer 0x61 part 0x022"),
    ],
)
def test_arm_tells_its_core_in_numbers(tmp_path: Path, implementer: str, part: str, name: str) -> None:
    (tmp_path / "proc").mkdir()
    core = f"processor\t: %d\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n\n"
    (tmp_path / "proc/cpuinfo").write_text(core % 0 + core % 1 + "Hardware\t: BCM2835\n")
    assert cpu_model(tmp_path) == name


def test_first_core_of_unlike_ones_names_the_processor(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    cores = [f"CPU implementer\t: 0x41\nCPU part\t: {part}\n" for part in ("0xd03", "0xd08")]
    (tmp_path / "proc/cpuinfo").write_text("\n".join(cores))
    assert cpu_model(tmp_path) == "Cortex-A53"


def test_jetson_tells_its_release_and_power_mode(tmp_path: Path) -> None:
    write(tmp_path, "etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref")
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0003\n")
    found = describe_host(tmp_path)
    assert (found["tegra"], found["power_mode"]) == ("R35 (release), REVISION: 4.1", "pmode:0003")


@pytest.mark.parametrize(
    ("file", "value", "boost"),
    [
        ("intel_pstate/no_turbo", "0", "1"),
        ("intel_pstate/no_turbo", "1", "0"),
        ("cpufreq/boost", "1", "1"),
        ("cpufreq/boost", "0", "0"),
    ],
)
def test_boost_in_both_ways_of_telling(tmp_path: Path, file: str, value: str, boost: str) -> None:
    write(tmp_path, f"sys/devices/system/cpu/{file}", value)
    write(tmp_path, "sys/devices/system/cpu/smt/active", "1\n")
    write(tmp_path, "sys/module/nvidia/version", "550.54.14\n")
    found = describe_host(tmp_path)
    assert (found["boost"], found["smt"], found["gpu_driver"]) == (boost, "1", "550.54.14")


def test_virtual_machine_is_told_by_its_processor(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "model name\t: AMD EPYC\nflags\t\t: fpu sse2 hypervisor avx2\n")
    assert describe_host(tmp_path)["virtual"] == "yes"
    write(tmp_path, "proc/cpuinfo", "model name\t: AMD EPYC\nflags\t\t: fpu sse2 avx2\n")
    assert "virtual" not in describe_host(tmp_path)
