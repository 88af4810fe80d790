"""Commands on agents whose responses are altered: one line with the device's name, no other effect."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from deployments import Fleet, exported, fleet, images, pieces, segments, write_devices
from lying_agents import Fields, alter_descriptions, alter_outputs
from msgspec.structs import replace
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.deploy.doctor import check_host
from jmsnas.deploy.remote_profile import profile_remote
from jmsnas.deploy.transport.frame import Frame
from jmsnas.errors import DeployError
from jmsnas.nas.run_result import RunResult
from jmsnas.profiler.profile import ProfileOptions
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import Block
from jmsnas.workspace import Workspace

BLOCKS = [Block.parse("mb_k3_e3 16->16 8x8"), Block.parse("identity 16->16 8x8")]
HOUR_NS = 3600 * 10**9
FORGED = "1.24\n\x1b[2Kok      agent of cloud          onnxruntime 1.24"
# Others are in tests/deploy/transport/test_responses.py.
FALSE_DESCRIPTIONS: list[Any] = [
    *({"call_s": value} for value in ("fast", -5, 10**400, 3600)),
    {"emulate": "../../etc"},
    {"host": {"cpu": "\u202egnp"}},
    *({"versions": value} for value in (None, {"onnxruntime": FORGED}, {"onnxruntime": " " * 60})),
    {"epoch": 1 << 60},
    {"name": "cloud"},
    b"[" * 100_000,
    b'{"call_s":NaN}',
    b'{"call_s":1e999}',
    b'{"x":"' + b"y" * (2 << 20) + b'"}',
]


def short(value: Any) -> str:
    """Shorten a value to a test's name."""
    return repr(value)[:30]


def of_device(name: str, change: Any) -> Callable[[Fields], Any]:
    """Alter a description of one device: other fields, a field without a value, or raw bytes."""

    def alter(fields: Fields) -> Any:
        if fields["name"] != name:
            return None
        return change if isinstance(change, bytes) else fields | change

    return alter


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        write_devices(Workspace(found.folder), found)
        yield found


@pytest.mark.parametrize("change", FALSE_DESCRIPTIONS, ids=short)
def test_doctor_names_the_device_and_checks_the_others(
    three: Fleet, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    alter_descriptions(monkeypatch, "call_s", of_device("pi4", change))
    found = {finding.what: finding for finding in check_host(Workspace(three.folder), ())}
    pi4 = found["agent of pi4"]
    assert pi4.level == "trouble" and pi4.words.startswith("device pi4: malformed response (Describe)")
    assert pi4.words.isprintable() and len(pi4.words) < 420
    assert found["agent of laptop"].level == found["agent of cloud"].level == "ok"


@pytest.mark.parametrize("key", ["call_s", "versions"])
def test_a_missing_field_ends_a_plan(three: Fleet, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    def remove(fields: Fields) -> Fields:
        return {name: value for name, value in fields.items() if name != key}

    alter_descriptions(monkeypatch, "call_s", remove)
    with pytest.raises(DeployError, match=f"device .* malformed response .Describe.: .*field `{key}`"):
        three.leader.ship(pieces(), segments())


@pytest.mark.parametrize(
    "change",
    [{"received": "now"}, {"sent": 1 << 63}, {"received": 0}, b"{}"],
    ids=short,
)
def test_false_clocks(three: Fleet, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    def alter(fields: Fields) -> Any:
        return change if isinstance(change, bytes) else fields | change

    alter_descriptions(monkeypatch, "received", alter)
    found = {finding.what: finding for finding in check_host(Workspace(three.folder), ())}
    assert found["agent of pi4"].words.startswith("device pi4: malformed response (Exchange)")
    # The neighbour whose clock is false is named, not the device that measures the link to it.
    with pytest.raises(DeployError, match="^device laptop: malformed .* .Link, .*reported by device pi4"):
        three.leader.measure_links([("pi4", "laptop")], [1000], rounds=1)


@pytest.mark.parametrize(
    "change",
    [
        {"arrival_ns": [HOUR_NS]},
        {"arrival_ns": [-HOUR_NS]},
        {"arrival_ns": ["soon"]},
        {"arrival_ns": []},
        {"arrival_ns": [1, 2]},
        {"round_trip_ns": HOUR_NS, "arrival_ns": [1]},
    ],
    ids=short,
)
def test_false_link_times(three: Fleet, monkeypatch: pytest.MonkeyPatch, change: Fields) -> None:
    alter_descriptions(monkeypatch, "arrival_ns", lambda fields: fields | change)
    with pytest.raises(
        DeployError, match="^device pi4(: malformed response .Link.| reports .* s for a message)"
    ):
        three.leader.measure_links([("pi4", "laptop")], [1000], rounds=1)


@pytest.mark.parametrize("boot", ["same", ""])
def test_a_device_that_pretends_to_share_a_clock(
    three: Fleet, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    # The clock of the link's target is hours ahead; with the claim of one boot its offset is not corrected.
    alter_descriptions(monkeypatch, "call_s", lambda fields: fields | {"boot": "aa" * 8 if boot else ""})
    with monkeypatch.context() as patch:
        ahead = {"received": HOUR_NS, "sent": HOUR_NS}

        def alter(fields: Fields) -> Fields:
            return fields | {key: fields[key] + ahead[key] for key in ahead}

        alter_descriptions(patch, "received", alter)
        if not boot:
            patch.setattr("jmsnas.deploy.agent.service._boot_id", lambda: "")
            (link,) = three.leader.measure_links([("pi4", "laptop")], [1000], rounds=2).values()
            assert link.offset_ns == pytest.approx(HOUR_NS, abs=10**8) and 0 < link.epsilon_s(1000) < 1
            return
        with pytest.raises(DeployError, match="device pi4 reports 3600.* s for a message to laptop"):
            three.leader.measure_links([("pi4", "laptop")], [1000], rounds=1)


@pytest.mark.parametrize(
    ("has", "change", "fault"),
    [
        ("missing", {"missing": ["ab" * 32]}, "it lacks abababababab: expected some of the"),
        ("missing", {"missing": ["../x"]}, "missing.0. is '../x'"),
        ("error", {"error": 0.5}, "error is 0.5: expected at most 0.0001"),
        ("error", {"error": -1}, "error is -1"),
    ],
)
def test_false_reports_of_a_part(
    three: Fleet, monkeypatch: pytest.MonkeyPatch, has: str, change: Fields, fault: str
) -> None:
    three.leader.ship(pieces(), segments())
    with monkeypatch.context() as patch:
        alter_descriptions(patch, has, lambda fields: change)
        with pytest.raises(DeployError, match=f"device (pi4|laptop|cloud): malformed response .*{fault}"):
            three.leader.ship(pieces(), segments(1))
    # The plan before stays current.
    (x,) = images(1)
    np.testing.assert_allclose(three.leader.infer(x).logits, exported().run(x), atol=1e-4)


def lied_profile(workspace: Workspace, warned: list[str]) -> Any:
    options = ProfileOptions(budget_s=0.2, warn=warned.append)
    return profile_remote("pi4", BLOCKS, [RuntimeKey()], workspace, workspace.certs / "leader", options)


@pytest.mark.parametrize(
    ("has", "change", "fault"),
    [
        ("progress", {"progress": [0.5, 0, "measuring"]}, "progress.1. is 0"),
        ("progress", {"progress": [0.5, 1.0, "\x1b[2J\rok agent of cloud"]}, "expected printable text"),
        ("progress", {"failed": 99, "why": "no"}, "a result of block 99: expected 0 to 1"),
        ("progress", {"tell": "a\nforged line"}, "expected printable text"),
        ("provider", {"provider": "CUDAExecutionProvider"}, "expected CPUExecutionProvider, as for onnxrun"),
        ("provider", {"provider": "CPU\nok"}, "expected printable text"),
        ("provider", {"tell": "no provider"}, "a result of block . before its provider"),
        ("row", {"done": True}, "results of 0 blocks: expected 2"),
        ("row", {"row": 5}, "missing required field|a result of block 5"),
    ],
    ids=short,
)
def test_false_events_of_a_profile(
    three: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: str, change: Any, fault: str
) -> None:
    workspace, warned = Workspace(tmp_path), list[str]()
    shutil.copytree(three.folder / "certs", workspace.certs)
    write_devices(workspace, three)

    def alter(fields: Fields) -> Any:
        return fields | change if has == "row" and "row" in change else change

    alter_descriptions(monkeypatch, has, alter)
    with pytest.raises(DeployError, match=f"device pi4: malformed response .Bench.: .*({fault})"):
        lied_profile(workspace, warned)
    assert all(text.isprintable() for text in warned)
    assert not workspace.table("pi4").exists()


def test_latencies_longer_than_the_job(three: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    shutil.copytree(three.folder / "certs", workspace.certs)
    write_devices(workspace, three)
    alter_descriptions(monkeypatch, "row", lambda fields: fields | {"reference_s": 1000.0 / fields["ratio"]})
    with pytest.raises(DeployError, match=r"a latency of 1e.03 s: expected at most the .* that the job has"):
        lied_profile(workspace, [])


@pytest.fixture(scope="module")
def lab(
    short_run: tuple[Workspace, RunResult], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Fleet]]:
    """A finished run and four agents."""
    workspace = Workspace(tmp_path_factory.mktemp("lab"))
    shutil.copytree(short_run[0].folder, workspace.folder, dirs_exist_ok=True)
    with fleet(workspace.folder, ("pi4", "laptop", "jetson", "cloud")) as four:
        write_devices(workspace, four)
        yield workspace, four


def not_a_number(honest: Frame) -> Frame:
    return replace(honest, body=b"\0\0\xc0\x7f" * (len(honest.body or b"") // 4))


def with_times(change: Callable[[int, int, int], tuple[int, int, int]]) -> Callable[[Frame], Frame]:
    """Change the times of the device that sends a response."""

    def alter(honest: Frame) -> Frame:
        (name, *times), *behind = msgspec.json.decode(honest.text)
        return replace(honest, text=msgspec.json.encode([[name, *change(*times)], *behind]))

    return alter


def hours(received: int, started: int, ended: int) -> tuple[int, int, int]:
    return received, started, ended + HOUR_NS


def clock_of_another_day(*times: int) -> tuple[int, int, int]:
    received, started, ended = (time + 24 * HOUR_NS for time in times)
    return received, started, ended


@pytest.mark.parametrize(
    ("device", "change", "fault"),
    [
        ("cloud", not_a_number, "device cloud: malformed response .Run.: .*not finite"),
        ("pi4", with_times(hours), "device pi4: malformed response .Run.: 3.6e.03 s on device pi4"),
        (
            "laptop",
            with_times(clock_of_another_day),
            "device (laptop|jetson|cloud) reports that it received data",
        ),
    ],
)
def test_deploy_ends_with_one_line(
    lab: tuple[Workspace, Fleet], monkeypatch: pytest.MonkeyPatch, device: str, change: Any, fault: str
) -> None:
    workspace, _ = lab
    alter_outputs(monkeypatch, device, change)
    done = CliRunner().invoke(
        app, ["deploy", "short", "--requests", "20", "--workspace", str(workspace.folder)]
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 1 and "Traceback" not in done.stderr and last.startswith("jmsnas: device ")
    assert re.search(fault, last), last
    assert not (workspace.run("short") / "deploy.json").exists()


def test_deploy_with_a_false_description(
    lab: tuple[Workspace, Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = lab
    alter_descriptions(monkeypatch, "call_s", of_device("jetson", {"versions": {"python": FORGED}}))
    done = CliRunner().invoke(app, ["deploy", "short", "--workspace", str(workspace.folder)])
    assert done.exit_code == 1 and "\x1b" not in done.output and "\nok" not in done.output
    assert done.stderr.splitlines()[-1].startswith("jmsnas: device jetson: malformed response (Describe)")
