import os
import shutil
import signal
import socket
import sys
import threading
import time
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployments import CHAIN, fleet, write_devices
from numpy.typing import NDArray
from served_models import exchange, exported
from typer.testing import CliRunner

import jmsnas
from jmsnas.cli import app
from jmsnas.deploy.leader import deployment
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.predicted_vs_measured import run_undivided
from jmsnas.errors import DeployError
from jmsnas.nas.run_result import RunResult
from jmsnas.workspace import Workspace

RUNNER = CliRunner()
TOKEN = "0123456789abcdef"


def test_serve_answers_until_sigterm_and_continues_without_a_lost_device(
    short_run: tuple[Workspace, RunResult],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The serving overhead, which takes most of the time, has tests of its own.
    monkeypatch.setattr(deployment, "reference_models", lambda *args: ())
    monkeypatch.setenv("JMSNAS_TOKEN", TOKEN)
    shutil.copytree(short_run[0].folder, tmp_path, dirs_exist_ok=True)
    shutil.copytree(exported(tmp_path_factory, short_run), tmp_path / "cache" / "onnx")
    run = load_run(Workspace(tmp_path), short_run[1].folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "short", "--replan", "--port", str(port), "--workspace", str(tmp_path)]
    found: list[object] = []

    def ask() -> None:
        try:
            while not _serves(port):
                time.sleep(0.1)
            with jmsnas.Client(f"http://127.0.0.1:{port}", token=TOKEN, timeout_s=60) as client:
                found.append(_answer(client, run.pixels[:1]))
                four.agents["jetson"].stop(0)
                found.append(_answer(client, run.pixels[:1]))
                # No plan is possible without the first device.
                four.agents["pi4"].stop(0)
                found.append(_answer(client, run.pixels[:1]))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with fleet(tmp_path, CHAIN) as four:
        write_devices(Workspace(tmp_path), four)
        thread = threading.Thread(target=ask)
        thread.start()
        done = RUNNER.invoke(app, words)
        thread.join()
    assert done.exit_code == 0, done.stderr
    expected = run_undivided(run, run.pixels[:1])
    for logits in found[:2]:
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert "503: device pi4 is lost, which receives the images: no plan is possible" in str(found[2])
    lines = done.stdout.splitlines()
    assert lines[0] == "Model short over topology chain, plan 1:" and lines[1].startswith(
        "  pi4        layers 1"
    )
    assert lines[-1] == f"Serving http://127.0.0.1:{port}/v2/models/short/infer until Ctrl-C"
    assert "SIMULATED: pi4" in done.stderr
    assert (
        "lost: jetson; solving the split again without" in done.stderr
        and "plan 2 without jetson" in done.stderr
    )


def _answer(client: jmsnas.Client, x: NDArray[np.float32]) -> NDArray[np.float32] | str:
    """The answer, or the text of an error; asked for again where a busy host passes the deadline."""
    while True:
        try:
            return client.infer(x)
        except DeployError as error:
            if "answered 504" not in str(error):
                return str(error)


def _serves(port: int) -> bool:
    try:
        return exchange(f"127.0.0.1:{port}", "GET", "/v2/health/ready")[0] == 200
    except OSError:
        return False


def test_options_that_leave_the_server_open_are_refused(tmp_path: Path, run: Path) -> None:
    key, token, readable = tmp_path / "key.pem", tmp_path / "token", tmp_path / "readable"
    for path in (key, token, readable):
        path.write_text(TOKEN)
        path.chmod(0o600)
    readable.chmod(0o644)
    short = tmp_path / "short"
    short.write_text("secret")
    short.chmod(0o600)
    tls = ["--tls-cert", str(key), "--tls-key", str(key)]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for words, error in (
            (["--host", "0.0.0.0"], "--host 0.0.0.0 is not loopback: expected --tls-cert, --tls-key and"),
            (["--host", "::", *tls], "--host :: is not loopback"),
            (["--host", "0.0.0.0", "--token-file", str(token)], "is not loopback"),
            (["--tls-cert", str(key)], "got one of --tls-cert and --tls-key: expected both, or none"),
            (["--token-file", str(short)], "the token is not 16 to 1024 printable ASCII characters"),
            (["--token-file", str(readable)], "can be read by others (mode 644): expected 600"),
            (["--token-file", str(tmp_path / "none")], "cannot read"),
            (tls, "Expected a certificate chain and its private key"),
            (["--host", "no.such.host.invalid", *tls, "--token-file", str(token)], "cannot "),
            (["--port", str(taken.getsockname()[1])], "Address already in use. Choose another with --port"),
        ):
            words = ["serve", str(run), "--loopback", *words, "--workspace", str(run.parents[1])]
            done = RUNNER.invoke(app, words)
            assert done.exit_code == 2 and error in done.stderr and done.stderr.count("\n") == 1, words


def test_without_the_extra_the_install_command_is_printed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(PathFinder):
        @classmethod
        def find_spec(cls, name: str, *others: Any, **named: Any) -> Any:
            return None if name == "uvicorn" else super().find_spec(name, *others, **named)

    finders = [Missing if finder is PathFinder else finder for finder in sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.delitem(sys.modules, "uvicorn", raising=False)
    done = RUNNER.invoke(app, ["serve", str(run)])
    assert done.exit_code == 2
    assert done.stderr == "jmsnas: jmsnas serve needs uvicorn: pip install 'jmsnas[serve]'\n"


def test_a_run_or_agent_that_is_not_there(tmp_path: Path, run: Path) -> None:
    done = RUNNER.invoke(app, ["serve", "nothing", "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "holds no finished run" in done.stderr
    done = RUNNER.invoke(app, ["serve", str(run), "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "devices.toml has no agent of " in done.stderr
