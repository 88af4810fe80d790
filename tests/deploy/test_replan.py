import threading
import time
from pathlib import Path

import numpy as np
import pytest
from deployments import CHAIN, fleet, write_devices

from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.calibration import load_calibrated_estimators
from jmsnas.deploy.leader.deployment import prepare_deployment, run_images
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.predicted_vs_measured import run_undivided
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
        deployment = prepare_deployment(run, four.leader, predictors, tmp_path / "cache", lines.append)
        deployment.plan(measure_overhead=False)

        def kill() -> None:
            time.sleep(0.2)
            four.agents["laptop"].stop(0)

        thread = threading.Thread(target=kill)
        thread.start()
        responses = run_images(deployment, images, 4, replan=True)
        thread.join()
    assert "lost: laptop; solving the split again without" in lines and deployment.lost == ["laptop"]
    # No response is lost or doubled, each belongs to its own image; two plans, before and after the loss.
    assert len(responses) == 400 and len({response.epoch for response in responses}) == 2
    logits = np.concatenate([response.logits for response in responses])
    np.testing.assert_allclose(logits, run_undivided(run, np.concatenate(images)), atol=1e-4)


def test_without_replan_the_device_is_named(short_run: tuple[Workspace, RunResult], tmp_path: Path) -> None:
    workspace = short_run[0]
    run = load_run(workspace, short_run[1].folder)
    with fleet(tmp_path, CHAIN) as four:
        predictors, _ = load_calibrated_estimators(run.topology, run.space, workspace, lambda text: None)
        deployment = prepare_deployment(run, four.leader, predictors, tmp_path / "cache")
        deployment.plan(measure_overhead=False)
        four.agents["jetson"].stop(0)
        with pytest.raises(DeviceLostError, match="device jetson"):
            run_images(deployment, [run.pixels[:1]] * 3, 1)
