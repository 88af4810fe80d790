from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jmsnas.errors import InputError
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.graph.from_torch import export_graph, fused_units, make_classifier, model_from_torchvision
from jmsnas.nas.graph.model import Model, model_of_part
from jmsnas.nas.graph.unit_timing import unit_calls
from jmsnas.nas.split.dag import Dag, articulation_points
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.workspace import Workspace


def test_resnet18_unit_by_unit() -> None:
    model = model_from_torchvision("resnet18", 224)
    # A stem, a pooling, 8 blocks of two convolutions and an addition, three of them with a convolution beside
    # them, a pooling, a dense layer: 2 + 8 x 3 + 3 + 2 = 31. 1.814 GMAC at 224 as published.
    assert model.N == 31 and model.parameters == 11689512
    assert model.macs == 1814073344
    assert model.units[0].name == "conv 7x7 3->64 + batch_norm + relu" and model.units[0].inputs == (0,)
    assert model.units[0].output_elements == 64 * 112 * 112 and model.units[4].name == "add + relu"
    assert model.units[4].inputs == (4, 2) and model.units[-1].output_elements == 1000
    inputs = tuple(unit.inputs for unit in model.units)
    dag = Dag(np.zeros((31, 1)), np.zeros((32, 1, 1)), inputs, np.zeros(1))
    assert len(articulation_points(dag)) == 2 + 2 + 8 + 1


def test_a_traced_mobilenet_counts_as_our_blocks_do() -> None:
    ours = model_of_part(mobilenet("mobilenet_v2", (3, 64, 64)), "mobilenet_v2", "")
    theirs = model_from_torchvision("mobilenet_v2", 64)
    assert theirs.macs == ours.macs and theirs.parameters == ours.parameters
    assert ours.N == 19


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_units_run_apart_give_what_the_network_gives(name: str) -> None:
    torch.manual_seed(0)
    model, module = model_from_torchvision(name, 64), make_classifier(name)
    graph = export_graph(module, name, (3, 64, 64))
    x_NCHW = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        calls = unit_calls(graph, x_NCHW, model.N)
        assert len(calls) == model.N
        torch.testing.assert_close(calls[-1](), module(x_NCHW))


def test_what_cannot_be_traced() -> None:
    with pytest.raises(InputError, match="unknown model 'resnet5': nearest are resnet50, resnet152"):
        model_from_torchvision("resnet5")
    with pytest.raises(InputError, match="cannot trace vit_b_16 for an input of 3x64x64: Wrong image height"):
        model_from_torchvision("vit_b_16", 64)


class Tied(nn.Module):
    """Three dense layers: the second has the weight of the first, the third is the first again."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = torch.relu(self.second(torch.relu(self.first(x))))
        result: torch.Tensor = self.first(once)
        return result


@pytest.mark.parametrize(("tied", "count"), [(True, 64 + 8 + 8), (False, 2 * (64 + 8))])
def test_tied_weights_are_held_once(tied: bool, count: int, tmp_path: Path) -> None:
    units, _ = fused_units(export_graph(Tied(tied), "tied", (8,)))
    model = Model("tied", (8,), units, "")
    assert [sum(weight.elements for weight in unit.weights) for unit in units] == [72, 72, 72]
    assert model.parameters == count
    problem = problem_of_model(model, load_general_topology("chain"), Workspace(tmp_path))
    assert problem.held_bytes(range(3)) == 4 * count and problem.held_bytes([0, 2]) == 4 * 72


def test_dtypes_of_torch_are_kept() -> None:
    x = torch.zeros(1, 8, dtype=torch.float64)
    units, _ = fused_units(torch.export.export(Tied(True).double(), (x,)).module())
    assert [unit.output_bytes for unit in units] == [64, 64, 64]
