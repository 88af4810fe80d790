"""Search spaces as TOML: the built-in ones, and those a user writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmsnas.errors import SpaceError
from jmsnas.files import find_toml, read_toml, refuse_unknown_keys
from jmsnas.space import HEAD, STEM, Candidate, Layer, SearchSpace, candidates_at, mbconv_candidates


def load_space(name: str, user_folder: Path | None = None) -> SearchSpace:
    """Load a space: a `.toml` file, else one of `user_folder`, else a built-in one. Raises SpaceError."""
    path = find_toml("spaces", name, user_folder, SpaceError)
    return space_from_toml(read_toml(path, SpaceError), str(path))


def space_from_toml(table: Mapping[str, Any], where: str) -> SearchSpace:
    """Make a space from a TOML document; docs/files.md describes its keys. Raises SpaceError."""
    refuse_unknown_keys(table, _SPACE_KEYS, where, SpaceError)
    try:
        return _space(table, where)
    except KeyError as error:
        raise SpaceError(f"{where} lacks the key {error}: a space has {', '.join(_SPACE_KEYS)}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise SpaceError(f"{where} has a value of the wrong kind: {error}") from error


_SPACE_KEYS = ("name", "input", "classes", "candidates", "stem", "stage", "head")


def _space(table: Mapping[str, Any], where: str) -> SearchSpace:
    channels, height, width = (int(size) for size in table["input"])
    candidates = _candidates(table["candidates"], where)
    stem, head, classes = table["stem"], table["head"], int(table["classes"])
    refuse_unknown_keys(stem, ("channels", "stride"), f"{where} [stem]", SpaceError)
    refuse_unknown_keys(head, ("channels",), f"{where} [head]", SpaceError)
    layers = [Layer(channels, int(stem["channels"]), int(stem["stride"]), height, width, "stem")]
    choices: list[tuple[Candidate, ...]] = [(STEM,)]
    for stage in table["stage"]:
        refuse_unknown_keys(
            stage, ("layers", "channels", "stride", "candidates"), f"{where} [[stage]]", SpaceError
        )
        own = (
            tuple(Candidate.parse(name) for name in stage["candidates"])
            if "candidates" in stage
            else candidates
        )
        for index in range(int(stage["layers"])):
            in_channels, in_height, in_width = layers[-1].output_shape
            stride = int(stage["stride"]) if index == 0 else 1
            layers.append(Layer(in_channels, int(stage["channels"]), stride, in_height, in_width))
            choices.append(candidates_at(layers[-1], own))
            if not choices[-1] or len(set(choices[-1])) < len(choices[-1]):
                names = ", ".join(c.name for c in choices[-1]) or "none"
                raise SpaceError(
                    f"{where}: layer {len(layers)} ({layers[-1]}) needs one or more different candidates, "
                    f"got {names}"
                )
    in_channels, in_height, in_width = layers[-1].output_shape
    layers.append(Layer(in_channels, classes, 1, in_height, in_width, "head", int(head["channels"])))
    choices.append((HEAD,))
    return SearchSpace(str(table["name"]), (channels, height, width), classes, tuple(layers), tuple(choices))


def _candidates(table: Mapping[str, Any], where: str) -> tuple[Candidate, ...]:
    refuse_unknown_keys(
        table, ("kernel_sizes", "expansions", "identity"), f"{where} [candidates]", SpaceError
    )
    kernel_sizes = tuple(int(k) for k in table["kernel_sizes"])
    expansions = tuple(int(e) for e in table["expansions"])
    return mbconv_candidates(kernel_sizes, expansions, bool(table.get("identity", True)))
