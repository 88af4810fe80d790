import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from deployments import RESTRICTED_AGENT, Fleet, fleet, images, pieces, segments
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jmsnas.deploy.agent.agent import AgentSettings
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.channel import CLIENT_OPTIONS, SERVER_OPTIONS, open_channel
from jmsnas.deploy.transport.health import MAX_WATCHERS
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.errors import DeviceError, InputError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), ("pi4",)) as found:
        yield found


def test_channel_options_detect_a_dead_peer() -> None:
    client, server = dict(CLIENT_OPTIONS), dict(SERVER_OPTIONS)
    for options in (client, server):
        assert options["grpc.http2.ping_timeout_ms"] <= 5000 and options["grpc.keepalive_time_ms"] <= 10_000
        assert options["grpc.max_receive_message_length"] == 16 << 20
    assert server["grpc.http2.min_recv_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]


def test_health_service_agrees_with_grpc_health(one: Fleet) -> None:
    identity = read_identity(one.folder / "certs" / "leader")
    channel = open_channel(one.agents["pi4"].address, "pi4", identity)
    stub = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=3)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watched = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=10)
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    one.agents["pi4"].health.serving = False
    assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert not one.leader.clients["pi4"].healthy()
    one.agents["pi4"].health.serving = True
    watched.cancel()
    channel.close()


def test_number_of_watchers_is_limited(one: Fleet) -> None:
    # A watcher occupies a thread for an unlimited time, and any device may watch.
    identity = read_identity(one.folder / "certs" / "leader")
    channel = open_channel(one.agents["pi4"].address, "pi4", identity)
    stub = health_pb2_grpc.HealthStub(channel)
    free, ends_s = one.agents["pi4"].health._watchers, time.monotonic() + 60
    # A cancelled watcher is noticed within a second.
    while free._value < MAX_WATCHERS and time.monotonic() < ends_s:
        time.sleep(0.05)
    watching = [
        stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=60) for _ in range(MAX_WATCHERS)
    ]
    for watched in watching:
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=60))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert one.leader.clients["pi4"].healthy(60)
    for watched in watching:
        watched.cancel()
    channel.close()


def test_plain_only_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--plain on 0.0.0.0:7070: expected a loopback address"):
        AgentSettings(tmp_path, tmp_path, "0.0.0.0:7070", plain=True)


@pytest.mark.parametrize(
    "listen", ["7070", ":7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65535"]
)
def test_listening_needs_an_address_and_two_ports(tmp_path: Path, listen: str) -> None:
    with pytest.raises(InputError, match=f"--listen {listen}: expected ADDRESS:PORT, .* a port up to 65534"):
        AgentSettings(tmp_path, tmp_path, listen)


@pytest.mark.parametrize("name", ["../pi4", "Pi 4", "\x1b[2J"])
def test_an_emulated_device_has_a_valid_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeviceError, match="device name .* must be 1 to 64 of a-z"):
        AgentSettings(tmp_path, tmp_path, emulate=name)


def test_port_in_use(one: Fleet) -> None:
    from jmsnas.deploy.agent.agent import Agent

    settings = AgentSettings(one.folder / "certs" / "pi4", one.folder / "other", one.agents["pi4"].address)
    with pytest.raises(InputError, match="cannot listen on .*Choose another port with --listen"):
        Agent(settings).start()


def test_the_port_above_is_in_use(one: Fleet) -> None:
    from jmsnas.deploy.agent.agent import Agent

    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1] - 1}"
        settings = AgentSettings(one.folder / "certs" / "pi4", one.folder / "other", listen)
        with pytest.raises(InputError, match=f"cannot listen on {listen} and the port above it: is another"):
            Agent(settings).start()


# Only the standard library and the packages of requirements-agent.txt can be imported.
def test_agent_needs_only_its_requirements(tmp_path: Path) -> None:
    names = {
        line.partition(">=")[0]
        for line in (ROOT / "requirements-agent.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert names == {"numpy", "onnxruntime", "grpcio", "cryptography", "msgspec"}
    (certs,) = make_certificates(tmp_path / "certs", ("pi4",))
    arguments = ["--certs", str(certs), "--store", str(tmp_path / "store"), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-c", RESTRICTED_AGENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
    assert line.startswith("pi4 listens on 127.0.0.1:"), errors
    assert process.returncode == 0


def test_stop_finishes_requests_in_flight(tmp_path: Path) -> None:
    from dataclasses import replace

    with fleet(tmp_path, ("pi4",)) as found:
        alone = pieces((6,), ("pi4",))
        found.leader.ship(tuple(replace(piece, hold_s=0.4) for piece in alone), segments())
        wait = found.leader.start(images(1)[0], 60.0)
        time.sleep(0.1)
        began = time.monotonic()
        found.agents["pi4"].stop(60.0)
        assert time.monotonic() - began < 30, "it waited for the whole grace period"
        assert wait().logits.size


def test_input_error_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jmsnas.deploy.agent.agent", "--certs", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot read" in done.stderr and "jmsnas certs --device NAME" in done.stderr


def test_loopback_agents_end_with_their_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from jmsnas.deploy.loopback import loopback_agents\n"
        "with loopback_agents(('pi4',), Path(sys.argv[1])) as agents:\n"
        "    print(agents['pi4'].process.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        agent = Path("/proc", process.stdout.readline().strip())
        assert agent.exists()
        process.kill()
    ends = time.monotonic() + 60
    while agent.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not agent.exists()


def test_the_wheel_has_the_requirements_of_an_agent() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["data-files"] == {"share/jmsnas": ["requirements-agent.txt"]}
    assert "share/jmsnas/requirements-agent.txt" in (ROOT / "docs" / "deploy.md").read_text()
