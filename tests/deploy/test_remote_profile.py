import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from deployments import Fleet, fleet

from jmsnas.deploy.agent import remote_timing as bench
from jmsnas.deploy.remote_profile import devices_by_host, profile_at_once, profile_remote
from jmsnas.errors import DeployError, DeviceError, MeasurementError
from jmsnas.profiler.profile import ProfileOptions
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.progress import Progress
from jmsnas.space import Block
from jmsnas.workspace import Workspace

BLOCKS = [Block.parse("mb_k3_e3 16->16 8x8"), Block.parse("identity 16->16 8x8")]


def devices(workspace: Workspace, found: Fleet) -> None:
    agent = found.leader.agents["pi4"]
    workspace.devices_file.write_text(
        f'[[device]]\nname = "pi4"\naddress = "{agent.address}"\nfingerprint = "{agent.fingerprint}"\n'
    )


def test_an_agent_profiles_its_device_and_resumes(tmp_path: Path) -> None:
    workspace, told = Workspace(tmp_path), list[str]()
    tasks, shares = list[str](), list[float]()
    with fleet(tmp_path, ("pi4",)) as one:
        devices(workspace, one)

        def progress(done: float, total: float, what: str) -> None:
            tasks.append(what.partition(": ")[2])
            shares.append(round(done / total, 9))

        def profile(budget_s: float | None) -> Any:
            options = ProfileOptions(budget_s=budget_s, warn=told.append, progress=progress)
            return profile_remote(
                "pi4", BLOCKS, [RuntimeKey()], workspace, workspace.certs / "leader", options
            )

        both = profile(0.3)
        first = [*dict.fromkeys(tasks)]
        assert first[0] == "exporting blocks to ONNX" and first[2] == "preparing blocks"
        assert first[1].startswith("sending 0.0") and first[1].endswith(" MB to pi4")
        # The share of the first of the two jobs does not fall from one step to the next.
        until = shares.index(max(shares[: tasks.index("measuring") + 1]))
        assert shares[: until + 1] == sorted(shares[: until + 1])
        again = profile(None)
        with pytest.raises(MeasurementError, match="times onnxruntime on its processor, not torch"):
            profile_remote("pi4", BLOCKS, [RuntimeKey("torch")], workspace, workspace.certs / "leader")
    assert both.provider == "CPUExecutionProvider"
    assert both.outcome == "measured" and {row.block for row in again.table.rows} == set(BLOCKS)
    assert {row.block for row in both.table.rows} == set(BLOCKS)
    assert {(row.kind, row.device) for row in both.table.rows} == {("measured", "pi4")}
    assert all(0 < row.median_s < 0.1 and row.samples for row in both.table.rows)
    (environment,) = both.table.environments.values()
    assert environment["onnxruntime"]


def test_an_unknown_device(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="has no device pi4"):
        profile_remote("pi4", BLOCKS, [RuntimeKey()], Workspace(tmp_path), tmp_path)


def test_only_signed_blocks_are_timed(tmp_path: Path) -> None:
    with fleet(tmp_path, ("pi4",)) as one:
        peer = one.leader.clients["pi4"]
        with pytest.raises(DeployError, match="a document that the leader did not sign"):
            peer.allow(b'{"schema":1,"blobs":[]}', bytes(64))
        job = {"models": ["ab" * 32] * 3, "references": 1, "threads": 1, "seed": 0, "config": {}}
        with pytest.raises(DeployError, match="a block that is not on the leader's list"):
            peer.bench(job, print)
        with pytest.raises(DeployError, match="a timing job is not valid"):
            peer.bench({**job, "shell": "id"}, print)


def test_a_lost_caller_stops_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def spy(*words: Any, **more: Any) -> Any:
        started.append(popen(*words, **more))
        return started[-1]

    monkeypatch.setattr(bench.subprocess, "Popen", spy)
    workspace = Workspace(tmp_path)
    with fleet(tmp_path, ("pi4",)) as one:
        devices(workspace, one)

        def lose() -> None:
            while not started:
                time.sleep(0.02)
            time.sleep(0.3)
            one.agents["pi4"]._server.stop(0)

        thread = threading.Thread(target=lose)
        thread.start()
        with pytest.raises(DeployError):
            profile_remote(
                "pi4",
                BLOCKS,
                [RuntimeKey()],
                workspace,
                workspace.certs / "leader",
                ProfileOptions(budget_s=600.0, warn=lambda text: None),
            )
        thread.join()
        began = time.monotonic()
        while started[0].poll() is None and time.monotonic() - began < 60:
            time.sleep(0.02)
        assert started[0].poll() is not None, "the measurement went on without a caller"


def test_agents_of_one_host_are_a_group_and_lost_ones_are_named(tmp_path: Path) -> None:
    with fleet(tmp_path, ("pi4", "laptop", "cloud")) as three:
        three.agents["cloud"].stop(0)
        groups, lost = devices_by_host(tmp_path / "certs" / "leader", three.leader.agents)
    assert groups == [["pi4", "laptop"]]
    assert list(lost) == ["cloud"] and isinstance(lost["cloud"], DeployError)


def test_different_hosts_are_profiled_at_once_and_one_host_in_turn() -> None:
    both, running, order, told = (
        threading.Barrier(2, timeout=30),
        set[str](),
        list[str](),
        list[tuple[Any, ...]](),
    )

    def profile(device: str, progress: Progress) -> str:
        assert device not in ("b", "c") or not running & {"b", "c"}
        running.add(device)
        order.append(device)
        if device in ("a", "b"):
            both.wait()  # neither ends before the other has begun
        progress(1, 2, "half")
        running.remove(device)
        if device == "b":
            raise DeviceError("b has no clock")
        return device.upper()

    found = profile_at_once([["a"], ["b", "c"]], profile, lambda *share: told.append(share))
    assert list(found) == ["a", "b", "c"] and order[2] == "c"
    assert (found["a"], str(found["b"]), found["c"]) == ("A", "b has no clock", "C")
    assert {total for _, total, _ in told} == {3} and max(done for done, _, _ in told) <= 3
    assert {what for _, _, what in told} == {"a: half", "b: half", "c: half"}
    assert profile_at_once([], profile, print) == {}


def test_an_interrupt_stops_every_device() -> None:
    started = threading.Event()

    def profile(device: str, progress: Progress) -> None:
        if device == "a":
            started.wait(30)
            raise KeyboardInterrupt
        started.set()
        while True:  # until `progress` raises
            progress(0, 1, "measuring")
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        profile_at_once([["a"], ["b"]], profile, lambda *share: None)
