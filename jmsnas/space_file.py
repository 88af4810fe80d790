"""Load search spaces from TOML: built-in ones and those of a user."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmsnas.errors import SpaceError
from jmsnas.files import find_toml, read_toml, refuse_unknown_keys, toml_errors
from jmsnas.space import HEAD, IDENTITY, STEM, Candidate, Layer, SearchSpace, valid_candidates


def load_space(name: str, user_folder: Path | None = None, branches: int = 0) -> SearchSpace:
    """Load a search space: a `.toml` file, else NAME.toml in `user_folder`, else a built-in one.

    `branches`: 0 for a chain; for a mesh the number of parallel branches, made from the file's [mesh].
    Raises SpaceError.
    """
    path = find_toml("spaces", name, user_folder, SpaceError)
    return space_from_toml(read_toml(path, SpaceError), str(path), branches)


def space_from_toml(table: Mapping[str, Any], where: str, branches: int = 0) -> SearchSpace:
    """Make a search space from a TOML document; docs/files.md lists its keys. Raises SpaceError."""
    refuse_unknown_keys(table, _SPACE_KEYS, where, SpaceError)
    if branches and "mesh" not in table:
        raise SpaceError(
            f"{where} has no [mesh]: expected the layers of a mesh as [[mesh.trunk]], [[mesh.branch]] and "
            "[[mesh.tail]]; see docs/files.md"
        )
    with toml_errors(where, SpaceError):
        return _space(table, where, branches)


_SPACE_KEYS = ("name", "input", "classes", "candidates", "stem", "stage", "head", "mesh")
# The largest networks have a few hundred layers.
_MAX_LAYERS = 1000
_STAGE_KEYS = ("layers", "channels", "stride", "candidates")


class _Builder:
    """Builder of a search space: appends layers, each with the input shape `self.shape`."""

    def __init__(self, candidates: tuple[Candidate, ...], where: str, first: Layer) -> None:
        self.candidates, self.where = candidates, where
        self.layers = [first]
        self.choices: list[tuple[Candidate, ...]] = [(STEM,)]
        self.shape = first.output_shape

    def add(self, layer: Layer, choices: tuple[Candidate, ...]) -> None:
        self.layers.append(layer)
        self.choices.append(choices)
        self.shape = layer.output_shape

    def add_stage(self, stage: Mapping[str, Any]) -> None:
        refuse_unknown_keys(stage, _STAGE_KEYS, f"{self.where} [[stage]]", SpaceError)
        named = stage.get("candidates")
        candidates = self.candidates if named is None else tuple(Candidate.parse(name) for name in named)
        if not 0 <= int(stage["layers"]) <= _MAX_LAYERS:
            raise SpaceError(
                f"{self.where} [[stage]] has layers {stage['layers']}: expected a number up to {_MAX_LAYERS}"
            )
        for index in range(int(stage["layers"])):
            in_channels, height, width = self.shape
            stride = int(stage["stride"]) if index == 0 else 1
            layer = Layer(in_channels, int(stage["channels"]), stride, height, width)
            choices = valid_candidates(layer, candidates)
            if not choices or len(set(choices)) < len(choices):
                names = ", ".join(c.name for c in choices) or "none"
                raise SpaceError(
                    f"{self.where}: layer {len(self.layers) + 1} ({layer}) needs one or more different "
                    f"candidates, got {names}"
                )
            self.add(layer, choices)


def _space(table: Mapping[str, Any], where: str, branches: int) -> SearchSpace:
    channels, height, width = (int(size) for size in table["input"])
    candidates = _candidates(table["candidates"], where)
    stem, head, classes = table["stem"], table["head"], int(table["classes"])
    refuse_unknown_keys(stem, ("channels", "stride"), f"{where} [stem]", SpaceError)
    refuse_unknown_keys(head, ("channels",), f"{where} [head]", SpaceError)
    first = Layer(channels, int(stem["channels"]), int(stem["stride"]), height, width, "stem")
    builder, branch_layers = _Builder(candidates, where, first), tuple[tuple[int, ...], ...]()
    if branches:
        branch_layers = _add_mesh(builder, table["mesh"], where, branches)
    else:
        for stage in table["stage"]:
            builder.add_stage(stage)
    in_channels, in_height, in_width = builder.shape
    builder.add(Layer(in_channels, classes, 1, in_height, in_width, "head", int(head["channels"])), (HEAD,))
    shape, layers, choices = (channels, height, width), tuple(builder.layers), tuple(builder.choices)
    return SearchSpace(str(table["name"]), shape, classes, layers, choices, branch_layers)


def _add_mesh(
    builder: _Builder, mesh: Mapping[str, Any], where: str, branches: int
) -> tuple[tuple[int, ...], ...]:
    """Add trunk, branches and tail; returns the layer indices of each branch."""
    refuse_unknown_keys(mesh, ("trunk", "branch", "tail"), f"{where} [mesh]", SpaceError)
    for stage in mesh.get("trunk", ()):
        builder.add_stage(stage)
    trunk_shape, branch_layers, shapes = builder.shape, [], []
    for number in range(1, branches + 1):
        builder.shape, start = trunk_shape, len(builder.layers)
        for stage in mesh["branch"]:
            if number in stage.get("only", (number,)):
                builder.add_stage({key: value for key, value in stage.items() if key != "only"})
        branch_layers.append(tuple(range(start, len(builder.layers))))
        shapes.append(builder.shape)
    if not all(branch_layers) or len(set(shapes)) > 1:
        ends = ", ".join(str(shape) for shape in shapes)
        raise SpaceError(
            f"{where}: every branch needs one layer or more, and all branches the same output shape, since "
            f"their outputs are summed; got {ends}"
        )
    for stage in mesh.get("tail", ()):
        builder.add_stage(stage)
    return tuple(branch_layers)


def _candidates(table: Mapping[str, Any], where: str) -> tuple[Candidate, ...]:
    refuse_unknown_keys(
        table, ("kernel_sizes", "expansions", "identity"), f"{where} [candidates]", SpaceError
    )
    kernel_sizes = tuple(int(k) for k in table["kernel_sizes"])
    expansions = tuple(int(e) for e in table["expansions"])
    return mbconv_candidates(kernel_sizes, expansions, bool(table.get("identity", True)))


def mbconv_candidates(
    kernel_sizes: tuple[int, ...] = (3, 5, 7), expansions: tuple[int, ...] = (3, 6), identity: bool = True
) -> tuple[Candidate, ...]:
    """List kernel sizes x expansions x (shortcut or not), then Identity: the 13 of the paper by default."""
    grid = itertools.product((True, False), kernel_sizes, expansions)
    found = tuple(Candidate(k, e, shortcut) for shortcut, k, e in grid)
    return found + ((IDENTITY,) if identity else ())
