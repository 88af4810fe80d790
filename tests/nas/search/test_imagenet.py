"""A generated tree of 224x224 JPEGs through both stages of the paper's recipe, cut to a few steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from roofline_predictor import Roofline

from jmsnas.datasets.catalog import load_dataset
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.search.config import RECIPES
from jmsnas.nas.search.search import search
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology

CLASSES = 4


def test_both_stages_of_the_papers_recipe_on_photographs(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 1)):
        for label in range(CLASSES):
            inner = tmp_path / part / f"n{label:08d}"
            inner.mkdir(parents=True)
            for n in range(count):
                pixels = draw.integers(0, 256, (224, 224, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(inner / f"{n}.JPEG")
    head = load_space("imagenet").layers[-1]
    space = load_space("imagenet")
    space = replace(space, classes=CLASSES, layers=(*space.layers[:-1], replace(head, out_channels=CLASSES)))
    topology = load_topology("chain")
    lut = build_lut(
        space, topology, {d.name: Roofline(load_simulated_device(d.table)) for d in topology.devices}
    )
    splits = load_dataset("imagenet", space, 0, tmp_path)
    assert [len(part) for part in (splits.train, splits.arch, splits.test)] == [12, 4, 4]
    paper = RECIPES["paper"].config
    config = replace(paper, warmup_epochs=0, search_epochs=1, final_epochs=1, batch_size=6, best=1)
    result = search(config, space, lut, splits)
    assert [epoch.stage for epoch in result.history] == ["search", "final"]
    assert result.derived.latency_s <= result.target.t_const_s
    assert result.history[0].derived_accuracy is not None
