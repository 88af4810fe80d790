import signal
import subprocess
from pathlib import Path

import pytest
from deployments import fleet

from jmsnas.deploy.doctor import _failed_import, _governor, _import, check_host
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
    assert found["agent of gone"].level == "trouble" and "jmsnas agent" in found["agent of gone"].remedy
    assert found["certificate of pi4"].level == "ok"
    assert found["certificate of jetson"].remedy == "jmsnas certs --device jetson"
