import itertools
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from deployments import CHAIN, fleet, write_addresses, write_devices
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.deploy import deploy_run
from jmsnas.deploy.leader import deployment
from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.calibration import load_calibrated_estimators
from jmsnas.deploy.leader.deployment import Deployment, prepare_deployment, run_images
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.predicted_vs_measured import run_undivided
from jmsnas.deploy.loopback import LoopbackAgent, loopback_agents
from jmsnas.nas.run_result import RunResult
from jmsnas.workspace import Workspace


def test_images_are_answered_after_a_device_is_lost(
    short_run: tuple[Workspace, RunResult], tmp_path: Path
) -> None:
    workspace = short_run[0]
    run = load_run(workspace, short_run[1].folder)
    images = [run.pixels[n % 100 : n % 100 + 1] for n in range(400)]
    with fleet(tmp_path, CHAIN) as four:
        write_devices(Workspace(tmp_path), four)
        predictors, _ = load_calibrated_estimators(run.topology, run.space, workspace, lambda text: None)
        lines: list[str] = []
        prepared = prepare_deployment(run, four.leader, predictors, tmp_path / "cache", lines.append)
        prepared.plan(measure_overhead=False)

        def kill() -> None:
            time.sleep(0.2)
            four.agents["laptop"].stop(0)

        thread = threading.Thread(target=kill)
        thread.start()
        responses = run_images(prepared, images, 4, replan=True)
        thread.join()
    assert "lost: laptop; solving the split again without" in lines and prepared.lost == ["laptop"]
    # No response is lost or doubled, each belongs to its own image; two plans, before and after the loss.
    assert len(responses) == 400 and len({response.epoch for response in responses}) == 2
    logits = np.concatenate([response.logits for response in responses])
    np.testing.assert_allclose(logits, run_undivided(run, np.concatenate(images)), atol=1e-4)


def test_without_replan_the_device_is_named(short_run: tuple[Workspace, RunResult], tmp_path: Path) -> None:
    workspace = short_run[0]
    run = load_run(workspace, short_run[1].folder)
    with fleet(tmp_path, CHAIN) as four:
        predictors, _ = load_calibrated_estimators(run.topology, run.space, workspace, lambda text: None)
        prepared = prepare_deployment(run, four.leader, predictors, tmp_path / "cache")
        prepared.plan(measure_overhead=False)
        four.agents["jetson"].stop(0)
        with pytest.raises(DeviceLostError, match="device jetson"):
            run_images(prepared, [run.pixels[:1]] * 3, 1)


@dataclass
class Lost:
    """Agents in processes of their own, by device, and a workspace whose `devices.toml` lists them."""

    workspace: Workspace
    agents: dict[str, LoopbackAgent]

    def deploy(self, *options: str) -> Result:
        run = ("deploy", "short", "--requests", "20", "--workspace", str(self.workspace.folder))
        return CliRunner().invoke(app, [*run, *options])

    def lose(self, device: str, number: signal.Signals) -> None:
        self.agents[device].kill(number)
        if number == signal.SIGKILL:
            self.agents[device].process.wait()


@pytest.fixture(scope="module")
def processes(
    short_run: tuple[Workspace, RunResult], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lost]:
    workspace = Workspace(tmp_path_factory.mktemp("lost"))
    shutil.copytree(short_run[0].folder, workspace.folder, dirs_exist_ok=True)
    with loopback_agents(CHAIN, workspace.folder) as agents:
        write_addresses(workspace, [agent.address for agent in agents.values()])
        yield Lost(workspace, agents)


@pytest.fixture
def fleet_of_four(processes: Lost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lost]:
    """All four agents alive: those that the test before killed or stopped are back.

    The serving overhead, which takes most of the time and has tests of its own, is not measured.
    """
    monkeypatch.setattr(deployment, "reference_models", lambda *args: ())
    yield processes
    for agent in processes.agents.values():
        agent.kill(signal.SIGCONT)
        if agent.process.poll() is not None:
            agent.restart()


def at_request(monkeypatch: pytest.MonkeyPatch, count: int, lose: Callable[[], None]) -> None:
    """Call `lose` before the request number `count` of those that are measured, 0 for the first."""
    sent = itertools.count()
    start, measure = Leader.start, deploy_run.measure_deployment

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(sent) == count:
            lose()
        return start(*args, **kwargs)

    def measured(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(Leader, "start", counted)
        return measure(*args, **kwargs)

    monkeypatch.setattr(deploy_run, "measure_deployment", measured)


def check_plan_without(result: Result, *lost: str) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    left = [name for name in CHAIN if name not in lost]
    assert document["lost"] == list(lost)
    assert [piece["device"] for piece in document["pieces"]] == left
    assert [leg["device"] for leg in document["timeline"]] == left
    assert document["accuracy"]["equal"] and document["pipelined"]["images"] == 360
    # The measured terms are those of the last plan, which has answered the whole measurement.
    assert document["answered"][-1]["epoch"] == document["epoch"]
    assert document["answered"][-1]["requests"] >= 20 + 20 + 360
    for name in lost:
        assert f"lost: {name}; solving the split again without" in result.stderr
    assert f"without {', '.join(lost)}: layers pi4 " in result.stderr
    return document


@pytest.mark.parametrize(("device", "number"), [("cloud", signal.SIGKILL), ("laptop", signal.SIGSTOP)])
def test_a_device_lost_before_the_start(fleet_of_four: Lost, device: str, number: signal.Signals) -> None:
    fleet_of_four.lose(device, number)
    document = check_plan_without(fleet_of_four.deploy("--replan", "--json"), device)
    assert len(document["answered"]) == 1 and document["repeated"] == 0


@pytest.mark.parametrize(
    ("request_number", "device", "number"),
    [
        (0, "jetson", signal.SIGKILL),  # after the plan, before the first request
        (30, "cloud", signal.SIGSTOP),  # among the requests sent one by one
        (200, "laptop", signal.SIGKILL),  # among the pipelined ones
    ],
)
def test_a_device_lost_during_the_requests(
    fleet_of_four: Lost,
    monkeypatch: pytest.MonkeyPatch,
    request_number: int,
    device: str,
    number: signal.Signals,
) -> None:
    at_request(monkeypatch, request_number, lambda: fleet_of_four.lose(device, number))
    document = check_plan_without(fleet_of_four.deploy("--replan", "--json"), device)
    assert document["repeated"] >= 1
    first, *_, last = (
        [{"requests": 0}, *document["answered"]] if request_number == 0 else document["answered"]
    )
    # Each request is answered once: those of the lost plan before the loss, those after it by the new plan.
    assert request_number - 8 <= first["requests"] <= request_number
    assert first["requests"] + last["requests"] == 2 * (20 + 20 + 360)


def test_devices_lost_one_after_the_other(fleet_of_four: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet_of_four.lose("laptop", signal.SIGKILL)
    at_request(monkeypatch, 25, lambda: fleet_of_four.lose("jetson", signal.SIGKILL))
    result = fleet_of_four.deploy("--replan", "--json")
    assert json.loads(result.stdout)["lost"] == ["laptop", "jetson"]
    assert "without laptop, jetson: layers pi4 " in result.stderr


def test_all_devices_but_the_first_are_lost(fleet_of_four: Lost) -> None:
    for device in CHAIN[1:]:
        fleet_of_four.lose(device, signal.SIGKILL)
    result = fleet_of_four.deploy("--replan")
    assert result.exit_code == 0, result.stderr
    assert "  pi4        layers 1-12, onnxruntime" in result.stdout
    assert "  lost: laptop, jetson, cloud; the plan above is without it" in result.stdout


def test_a_device_that_only_the_leader_reaches_is_lost(
    fleet_of_four: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Deployment] = []
    prepare = deploy_run.prepare_deployment

    def prepared(*args: Any, **kwargs: Any) -> Any:
        made.append(prepare(*args, **kwargs))
        return made[-1]

    def cut() -> None:
        # The other devices get an address on which no agent listens, as behind a cut link.
        leader, planned = made[0].leader, made[0].planned
        leader.agents["laptop"] = replace(leader.agents["laptop"], address="127.0.0.1:1")
        assert planned is not None
        leader.ship(planned.part_specs, made[0].segments)

    monkeypatch.setattr(deploy_run, "prepare_deployment", prepared)
    at_request(monkeypatch, 45, cut)
    result = fleet_of_four.deploy("--replan", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["lost"] == ["laptop"] and document["accuracy"]["equal"]
    assert [piece["device"] for piece in document["pieces"]] == ["pi4", "jetson", "cloud"]


@pytest.mark.parametrize("replan", [("--replan",), ()])
def test_the_first_device_cannot_be_replaced(fleet_of_four: Lost, replan: tuple[str, ...]) -> None:
    fleet_of_four.lose("pi4", signal.SIGKILL)
    result = fleet_of_four.deploy(*replan)
    assert result.exit_code == 1 and "--replan" not in result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("jmsnas: "))
    assert line.startswith("jmsnas: device pi4") and not result.stdout
    assert ("receives the images: no plan is possible without it" in line) == bool(replan)


@pytest.mark.parametrize("request_number", [None, 45])
def test_without_replan_the_option_is_named(
    fleet_of_four: Lost, monkeypatch: pytest.MonkeyPatch, request_number: int | None
) -> None:
    if request_number is None:
        fleet_of_four.lose("jetson", signal.SIGKILL)
    else:
        at_request(monkeypatch, request_number, lambda: fleet_of_four.lose("jetson", signal.SIGKILL))
    result = fleet_of_four.deploy()
    assert result.exit_code == 1 and not result.stdout
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("jmsnas: "))
    assert line.startswith("jmsnas: device jetson: ")
    assert line.endswith("See: jmsnas doctor. To continue without it: --replan")
