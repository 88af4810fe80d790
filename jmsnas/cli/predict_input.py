"""Make the blocks to predict from the options of `jmsnas predict`: block names, an architecture or a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.architecture import Architecture
from jmsnas.cli.predict_arguments import PredictArguments
from jmsnas.errors import InputError, SpaceError
from jmsnas.space import Block, Candidate, Layer, Part, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

_SHAPE = re.compile(r"(\d{1,5})x(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True, slots=True)
class DevicePart:
    """The part of a run's model on one device; `layers` are numbered from 1."""

    device: str
    table: str
    runtime: str
    layers: tuple[int, ...]
    part: Part


def requested_blocks(args: PredictArguments, workspace: Workspace) -> tuple[Part, tuple[DevicePart, ...]]:
    """Make the blocks of --block, --arch or --run; with --run also the part of each device.

    Raises InputError for missing, conflicting or invalid options.
    """
    if sum(option is not None for option in (args.block or None, args.arch, args.run)) != 1:
        raise InputError("expected one of --block, --arch and --run. Examples: jmsnas predict --help")
    geometry = (args.input_shape, args.out, args.stride)
    if (not args.block and geometry != (None, None, None)) or (args.arch is None and args.space is not None):
        raise InputError("--in, --out and --stride belong to --block, --space to --arch: leave it out here")
    if args.run is not None:
        return model_of_run(workspace, args.run)
    if args.arch is not None:
        return architecture_part(args.arch, load_space(args.space or "digits", workspace.spaces)), ()
    return Part(tuple(parse_block(text, *geometry) for text in args.block or ())), ()


def parse_block(text: str, input_shape: str | None, out: int | None, stride: int | None) -> Block:
    """Make a block from a candidate name and geometry, or from a text such as `mb_k5_e6 32->64 28x28 /2`.

    Raises SpaceError.
    """
    text = text.strip()
    if " " in text:
        if (input_shape, out, stride) != (None, None, None):
            raise SpaceError(f"--block {text!r} includes its geometry: leave out --in, --out and --stride")
        return Block.parse(text)
    candidate = Candidate.parse(text)
    if candidate.operation.hidden:
        raise SpaceError(
            f"{candidate.name} has hidden channels: give the whole block as one text, such as "
            f"--block '{candidate.name} 32->10 2x2 h128'"
        )
    if input_shape is None:
        raise SpaceError(
            f"{candidate.name} needs its input's channels, height and width, such as --in 32x28x28"
        )
    match = _SHAPE.fullmatch(input_shape)
    if not match:
        raise SpaceError(
            f"cannot read --in {input_shape!r}: expected CHANNELSxHEIGHTxWIDTH, such as 32x28x28"
        )
    channels, height, width = (int(size) for size in match.groups())
    out_channels = channels if out is None else out
    role = candidate.operation.role
    return Block(
        candidate, Layer(channels, out_channels, 1 if stride is None else stride, height, width, role)
    )


def architecture_part(text: str, space: SearchSpace) -> Part:
    """Make the blocks of an architecture from candidate names without stem and head. Raises SpaceError."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != space.N - 2:
        raise SpaceError(
            f"got {len(names)} names in --arch: expected {space.N - 2}, one for each layer of space "
            f"{space.name} between stem and head"
        )
    (stem,), *_, (head,) = space.choices
    candidates = (stem, *(Candidate.parse(name) for name in names), head)
    Architecture(candidates).indices(space)
    return Part(tuple(Block(*pair) for pair in zip(candidates, space.layers, strict=True)))


def model_of_run(workspace: Workspace, text: str) -> tuple[Part, tuple[DevicePart, ...]]:
    """Read the model of a finished run and the part of each device that runs layers.

    `text` is the name of a run, or its folder. Raises InputError for a missing or damaged run.
    """
    from jmsnas.nas.run_result import find_run, read_result

    run = read_result(find_run(workspace, text))
    blocks, devices = run.blocks, run.topology.devices
    parts = [Part(tuple(blocks[n - 1] for n in term.layers)) for term in run.derived.terms]
    device_parts = (
        DevicePart(device.name, device.table, device.runtime, term.layers, part)
        for device, term, part in zip(devices, run.derived.terms, parts, strict=True)
        if term.layers
    )
    return Part(blocks), tuple(device_parts)


def devices_and_runtimes(
    args: PredictArguments, device_parts: Sequence[DevicePart]
) -> list[tuple[str, str | None]]:
    """List the devices to predict on, each with a runtime: --device, else those of the run, else this host.

    A runtime of None means the default of the device.
    """
    run_runtime = {part.table: part.runtime for part in device_parts}
    if args.device:
        found = [(device, args.runtime or run_runtime.get(device)) for device in args.device]
    else:
        found = [(part.table, args.runtime or part.runtime) for part in device_parts]
    return list(dict.fromkeys(found or [("local", args.runtime)]))
