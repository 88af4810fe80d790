import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.cost import cost
from jmsnas.profiler.off_grid_blocks import off_grid_blocks
from jmsnas.space import IDENTITY, SearchSpace
from jmsnas.space_file import load_space

SPACES = ["digits", "cifar", "imagenet"]


@pytest.mark.parametrize("name", SPACES)
def test_blocks_are_new_and_in_range(name: str) -> None:
    space = load_space(name)
    found = off_grid_blocks(space, 200)
    assert len(set(found)) == 200 and not set(found) & set(space.blocks())
    layers = [layer for layer in space.layers if layer.role == "block"]
    widths = [width for layer in layers for width in (layer.in_channels, layer.out_channels)]
    sizes = [layer.height for layer in layers]
    candidates = {candidate for choices in space.choices for candidate in choices}
    for block in found:
        layer = block.layer
        assert {layer.in_channels % 4, layer.out_channels % 4} == {0}
        assert 0.5 * min(widths) <= min(layer.in_channels, layer.out_channels)
        assert max(layer.in_channels, layer.out_channels) <= 1.5 * max(widths)
        assert min(sizes) <= layer.height == layer.width <= max(sizes)
        assert block.candidate in candidates and block.candidate.op == "mb"
        assert not block.candidate.shortcut or layer.keeps_shape
        assert cost(block).macs <= 2 * max(cost(known).macs for known in space.blocks())


def test_sizes_are_not_those_of_the_space_alone() -> None:
    # digits has maps of 8, 4 and 2 pixels and widths of 16, 24 and 32.
    found = off_grid_blocks(load_space("digits"), 100)
    assert {block.layer.height for block in found} == set(range(2, 9))
    assert {block.layer.in_channels for block in found} == set(range(8, 49, 4))
    assert {block.layer.stride for block in found} == {1, 2}


@pytest.mark.parametrize("name", SPACES)
def test_the_range_is_filled_evenly(name: str) -> None:
    # Points are even; rounding to whole widths and maps, and refusing the largest blocks, tilt them a little.
    found = off_grid_blocks(load_space(name), 256)
    for sizes in (
        [block.layer.in_channels for block in found],
        [block.layer.out_channels for block in found],
        [block.layer.height for block in found],
    ):
        middle = math.sqrt(min(sizes) * max(sizes))
        below = np.mean(np.array(sizes) < middle)
        assert 0.3 < below < 0.7
    assert 0.35 < np.mean([block.candidate.shortcut for block in found]) < 0.65
    kernels = [block.candidate.kernel_size for block in found]
    assert all(0.2 < kernels.count(kernel) / 256 < 0.5 for kernel in (3, 5, 7))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 1 << 32))
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(one: int, other: int, seed: int) -> None:
    few, many = sorted((one, other))
    space = load_space("cifar")
    assert off_grid_blocks(space, many, seed)[:few] == off_grid_blocks(space, few, seed)


def test_another_seed_gives_other_blocks() -> None:
    space = load_space("digits")
    assert off_grid_blocks(space, 50, 1) == off_grid_blocks(space, 50, 1)
    assert len(set(off_grid_blocks(space, 50, 1)) & set(off_grid_blocks(space, 50, 2))) < 25


def only(space: SearchSpace, name: str) -> SearchSpace:
    """Leave one candidate at each of the space's first two layers."""
    kept = [candidate for candidate in space.choices[1] if candidate.name == name]
    return replace(space, layers=space.layers[:2], choices=(space.choices[0], tuple(kept)))


def test_a_small_space_gives_what_there_is() -> None:
    digits = load_space("digits")
    assert off_grid_blocks(only(digits, IDENTITY.name), 1) == ()
    # One candidate that keeps its shape, maps of 8: widths 8, 12 and 20 are left, since 16 is the space's own
    # and 24 takes more than twice its work.
    found = off_grid_blocks(only(digits, "mb_k3_e3_skip"), 100)
    assert sorted(block.layer.in_channels for block in found) == [8, 12, 20]
