"""What `jmsnas predict` is asked for, as blocks: from options, from names of candidates, from a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.architecture import Architecture
from jmsnas.errors import InputError, SpaceError
from jmsnas.space import Block, Candidate, Layer, Part, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

_SHAPE = re.compile(r"(\d{1,5})x(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True, slots=True)
class DevicePart:
    """What one device of a run has of its network; `layers` are numbers from 1."""

    device: str
    table: str
    runtime: str
    layers: tuple[int, ...]
    part: Part


# --in, --out and --stride as they were typed; None where they were not.
GeometryOptions = tuple[str | None, int | None, int | None]


def requested_blocks(
    workspace: Workspace,
    blocks: Sequence[str],
    geometry: GeometryOptions,
    arch: str | None,
    space: str | None,
    run: str | None,
) -> tuple[Part, tuple[DevicePart, ...]]:
    """Make the blocks that one of --block, --arch and --run asks for, and the cuts of a run.

    Raises
    ------
    InputError
        When options are missing, too many or wrong.
    """
    if sum(asked is not None for asked in (blocks or None, arch, run)) != 1:
        raise InputError("expected one of --block, --arch and --run. Examples: jmsnas predict --help")
    if (not blocks and any(word is not None for word in geometry)) or (arch is None and space is not None):
        raise InputError("--in, --out and --stride belong to --block, --space to --arch: leave it out here")
    if run is not None:
        return model_of_run(workspace, run)
    if arch is not None:
        return architecture_part(arch, load_space(space or "digits", workspace.spaces)), ()
    return Part(tuple(parse_block(text, *geometry) for text in blocks)), ()


def parse_block(text: str, input_shape: str | None, out: int | None, stride: int | None) -> Block:
    """Make a block from its name and geometry, or from one text such as `mb_k5_e6 32->64 28x28 /2`.

    Raises
    ------
    SpaceError
        When it cannot be read, or be.
    """
    text = text.strip()
    if " " in text:
        if (input_shape, out, stride) != (None, None, None):
            raise SpaceError(f"--block {text!r} has its geometry in it: leave out --in, --out and --stride")
        return Block.parse(text)
    candidate = Candidate.parse(text)
    if candidate.operation.hidden:
        raise SpaceError(
            f"{candidate.name} has a width in the middle too: give all of it in one, as in "
            f"--block '{candidate.name} 32->10 2x2 h128'"
        )
    if input_shape is None:
        raise SpaceError(f"{candidate.name} needs its input's channels, height and width: as --in 32x28x28")
    match = _SHAPE.fullmatch(input_shape)
    if not match:
        raise SpaceError(
            f"cannot read --in {input_shape!r}: expected channels x height x width, as in 32x28x28"
        )
    channels, height, width = (int(size) for size in match.groups())
    out_channels = channels if out is None else out
    role = candidate.operation.role
    return Block(
        candidate, Layer(channels, out_channels, 1 if stride is None else stride, height, width, role)
    )


def architecture_part(text: str, space: SearchSpace) -> Part:
    """Make the network of a space from a name a layer; stem and head are implied.

    Raises
    ------
    SpaceError
        For another number of names, or a candidate that a layer cannot be.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) != space.N - 2:
        raise SpaceError(
            f"got {len(names)} names in --arch: space {space.name} has {space.N - 2} layers between stem and "
            "head, expected a name for each"
        )
    (stem,), *_, (head,) = space.choices
    candidates = (stem, *(Candidate.parse(name) for name in names), head)
    Architecture(candidates).indices(space)
    return Part(tuple(Block(*pair) for pair in zip(candidates, space.layers, strict=True)))


def model_of_run(workspace: Workspace, text: str) -> tuple[Part, tuple[DevicePart, ...]]:
    """Read the network that a run found, and who runs what of it; relays run nothing.

    Parameters
    ----------
    text
        Name of a run of the workspace, or the folder of one.

    Raises
    ------
    InputError
        When there is no such run, or it is damaged.
    """
    from jmsnas.nas.run_result import find_run, read_result

    run = read_result(find_run(workspace, text))
    blocks, devices = run.blocks, run.topology.devices
    cuts = tuple(
        DevicePart(
            device.name,
            device.table,
            device.runtime,
            term.layers,
            Part(tuple(blocks[n - 1] for n in term.layers)),
        )
        for device, term in zip(devices, run.derived.terms, strict=True)
        if term.layers
    )
    return Part(blocks), cuts


# A device and the run time that answers for it; None: the usual one.
DeviceRuntime = tuple[str, str | None]


def prediction_columns(
    devices: Sequence[str], runtime: str | None, cuts: Sequence[DevicePart]
) -> list[DeviceRuntime]:
    """Choose what answers: the devices named, else the run's, else this host."""
    of_run = {cut.table: cut.runtime for cut in cuts}
    found: list[DeviceRuntime] = [(name, runtime or of_run.get(name)) for name in devices]
    if not devices:
        found = [(cut.table, runtime or cut.runtime) for cut in cuts] or [("local", runtime)]
    return list(dict.fromkeys(found))
