import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from deployments import fleet, write_devices

from jmsnas.deploy.doctor import _failed_import, _governor, _import, check_agents, check_host
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.workspace import Workspace


def test_installed_and_missing_libraries() -> None:
    numpy, missing = _import("numpy"), _import("no_such_module")
    assert numpy.level == "ok" and numpy.words[0].isdigit()
    assert missing.words == "is not installed" and "pip install no_such_module" in missing.remedy


@pytest.mark.parametrize(
    ("code", "words", "expected", "remedy"),
    [
        (
            -signal.SIGILL,
            "",
            "Illegal instruction: this wheel was built for a newer processor",
            "--upgrade onnxruntime",
        ),
        (-signal.SIGSEGV, "", "kills Python with SIGSEGV", "--force-reinstall"),
        (
            1,
            "ImportError: /lib/libm.so.6: version `GLIBC_2.38' not found",
            "needs a newer system",
            "operating system",
        ),
        (1, "ImportError: broken", "cannot be imported: ImportError: broken", "--force-reinstall"),
    ],
)
def test_causes_of_failed_imports(code: int, words: str, expected: str, remedy: str) -> None:
    found = _failed_import("onnxruntime", code, words)
    assert found.level == "trouble" and expected in found.words and remedy in found.remedy


def test_a_killed_process_is_reported() -> None:
    def run(*args: object, **more: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["sh", "-c", "kill -ILL $$"], capture_output=True, text=True, check=False)

    assert "Illegal instruction" in _import("torch", run).words


def test_governors(tmp_path: Path) -> None:
    assert "not available" in _governor(tmp_path).words


def test_agents_and_certificates(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_certificates(workspace.certs, ("jetson",), days=5)
    with fleet(tmp_path, ("pi4",)) as one:
        address = one.leader.agents["pi4"]
        entry = '[[device]]\nname = "{}"\naddress = "{}"\nfingerprint = "{}"\n'
        workspace.devices_file.write_text(
            entry.format("pi4", address.address, address.fingerprint)
            + entry.format("gone", "127.0.0.1:1", "ab" * 32)
        )
        found = {finding.what: finding for finding in check_host(workspace, ())}
    assert found["agent of pi4"].level == "ok" and "round trip" in found["agent of pi4"].words
    assert found["agent of gone"].level == "trouble" and "jmsnas-agent" in found["agent of gone"].remedy
    assert found["certificate of pi4"].level == "ok"
    assert found["certificate of jetson"].remedy == "jmsnas certs --device jetson"


ENTRY = '[[device]]\nname = "{}"\naddress = "{}"\nfingerprint = "{}"\n'


def test_an_agent_that_never_answers_is_one_line(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_certificates(workspace.certs, ("silent-1",))
    with ExitStack() as stack:  # each connects, but never answers
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(40)]
        where = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
        names = [f"silent-{number}" for number in range(40)]
        entries = [ENTRY.format(name, at, "ab" * 32) for name, at in zip(names, where, strict=True)]
        workspace.devices_file.write_text("".join(entries))
        found = check_agents(workspace, within_s=1.0)
    assert [result.what for result in found] == [f"agent of {name}" for name in names]
    assert [result.words for result in found] == [f"{at}: no answer in time" for at in where]
    assert {result.level for result in found} == {"trouble"}
    assert all("start jmsnas-agent there again" in result.remedy for result in found)


def test_a_host_whose_name_is_never_resolved_does_not_delay_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, ended = socket.create_connection, threading.Event()

    def stuck(address: tuple[str, int], timeout: float) -> socket.socket:
        if address[0] == "nowhere":
            ended.wait()
            raise OSError("ended")
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", stuck)
    workspace = Workspace(tmp_path)
    entries = [("far", "nowhere:7070"), ("gone", "127.0.0.1:1")]
    workspace.devices_file.write_text("".join(ENTRY.format(*entry, "ab" * 32) for entry in entries))
    try:
        far, gone = check_agents(workspace, within_s=0.5)
    finally:
        ended.set()
    assert far.words == "nowhere:7070: no answer in time" and "refused" in gone.words


def test_a_data_port_that_is_closed_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with fleet(tmp_path, ("pi4",)) as one:
        write_devices(workspace, one)
        one.agents["pi4"].data.stop()
        (found,) = check_agents(workspace, within_s=60.0)
        data = one.leader.agents["pi4"].data_address
    assert found.words == f"{data}: Connection refused" and "through the firewalls" in found.remedy
