import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployments import CHAIN, fleet, write_devices

from jmsnas.deploy.deploy_run import DeployOptions, deploy_run
from jmsnas.deploy.leader.calibration import (
    CalibratedEstimator,
    calibrate,
    load_calibrated_estimators,
    read_factor,
)
from jmsnas.deploy.leader.deployment import prepare_deployment
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.runtime_choice import choose_torch_runtimes, with_runtimes
from jmsnas.errors import InputError
from jmsnas.nas.run_result import RunResult
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import Block, Candidate
from jmsnas.topology import load_topology
from jmsnas.workspace import Workspace


def test_runtimes_by_device() -> None:
    topology = load_topology("chain")
    runtimes = [device.runtime for device in with_runtimes(topology, ["torch", "pi4=onnxruntime"]).devices]
    assert runtimes == ["onnxruntime", "torch", "torch", "torch"]
    assert with_runtimes(topology, []) == topology


@pytest.mark.parametrize("text", ["tensorrt", "phone=torch", "cloud=", ""])
def test_invalid_runtimes(text: str) -> None:
    with pytest.raises(
        InputError, match=f"--runtime {text}: expected onnxruntime or torch, or .*cloud=torch"
    ):
        with_runtimes(load_topology("chain"), [text])


def test_one_device_by_torch_the_others_by_onnxruntime(
    short_run: tuple[Workspace, RunResult], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    shutil.copytree(short_run[0].folder, workspace.folder, dirs_exist_ok=True)
    folder, warnings = workspace.run("short"), list[str]()
    with fleet(workspace.folder, CHAIN) as four:
        write_devices(workspace, four)
        found = deploy_run(
            workspace,
            folder,
            DeployOptions(cuts=(2, 5, 8, 12), requests=20, runtimes=("jetson=torch",)),
            warn=warnings.append,
        )
        topology = with_runtimes(load_topology("chain"), ["jetson=torch"])
        run = short_run[1].document
        predictors, _ = load_calibrated_estimators(
            topology, short_run[1].load_space(workspace), workspace, warnings.append
        )
        choices = choose_torch_runtimes(topology, predictors, four.leader, four.leader.describe())
        deployment = prepare_deployment(
            replace(load_run(workspace, folder), topology=topology),
            four.leader,
            predictors,
            tmp_path / "cache",
            torch=choices,
        )
        solved = deployment.plan((2, 5, 8, 12), measure_overhead=False)
    document = found.document
    runtimes = {piece["device"]: piece["runtime"] for piece in document["pieces"]}
    assert runtimes == {
        "pi4": "onnxruntime",
        "laptop": "onnxruntime",
        "jetson": "torch",
        "cloud": "onnxruntime",
    }
    assert document["accuracy"]["equal"] and document["accuracy"]["largest_difference"] <= 1e-4
    assert document["accuracy"]["divided"] == run["accuracy"]["test"]
    # The simulated Jetson is a GPU, and there is none here: a warning, and the part runs on the CPU.
    assert {name: one.key for name, one in choices.items()} == {"jetson": RuntimeKey("torch")}
    assert 0 <= choices["jetson"].call_s < 0.1 and any("jetson has no CUDA" in line for line in warnings)
    # U(.) is that of torch: the sum over the blocks of its part, and what a call costs.
    names, layers = run["derived"]["candidates"], short_run[1].load_space(short_run[0]).layers
    blocks = [Block(Candidate.parse(names[n]), layers[n]) for n in range(5, 8)]
    assert (
        isinstance(predictors["jetson"], CalibratedEstimator)
        and predictors["jetson"].estimator.key.runtime == "torch"
    )
    expected_s = float(np.sum(predictors["jetson"].predict_s(blocks))) + choices["jetson"].call_s
    assert solved.tau_s["jetson"] == pytest.approx(expected_s)
    kept = calibrate(document, found.topology, workspace)
    assert set(kept) == {"pi4", "laptop", "jetson-torch", "cloud"}
    assert (
        read_factor(workspace, "jetson", "torch") == kept["jetson-torch"]
        and read_factor(workspace, "jetson") == 1.0
    )
