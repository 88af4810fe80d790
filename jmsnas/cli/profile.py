"""`jmsnas profile`: measure or simulate the latencies of blocks, models or block stages."""

from jmsnas.cli import app
from jmsnas.cli.options import options_from
from jmsnas.cli.profile_arguments import ProfileArguments
from jmsnas.cli.terminal import one_line_errors

_HELP = """Measure every block of a search space on a device, into tables/DEVICE.parquet.

The same command resumes a stopped profile. A device that is not available is SIMULATED and marked so.

[bold]Examples[/bold]

  jmsnas profile                                  this host, in both runtimes

  jmsnas profile --dry-run                        print what would be measured, and the duration

  jmsnas profile --runtime onnxruntime            only the runtime that serves parts

  jmsnas profile --space imagenet --budget 5m     5 min per runtime; again: refine the same table

  jmsnas profile --blocks 20                      only the 20 most informative blocks, and the error of U(.)

  jmsnas profile --until-mape 5                   add blocks until U(.) has 5 % error on unseen layers

  jmsnas profile --device pi4 --device jetson     two devices, one after the other

  jmsnas profile --topology lab                   all devices of it that have no table yet, hosts at once

  jmsnas profile --device jetson --measured-only  refuse to simulate

  jmsnas profile --runtime torch --processor cuda --dtype float16 --batch 8

  jmsnas profile --model resnet50 --size 224      the units of one model, for jmsnas split

  jmsnas profile --breakdown                      time per stage of each block, measured by torchprof

Next: jmsnas fit-estimator
"""


@app.command("profile", help=_HELP)
@one_line_errors
@options_from(ProfileArguments)
def profile_command(args: ProfileArguments) -> None:
    """Run one of four modes: a topology, a model, block stages, or the blocks of a search space."""
    if args.topology is not None:
        from jmsnas.cli.profile_topology import profile_topology_command

        profile_topology_command(args, args.topology)
    elif args.model is not None:
        from jmsnas.cli.profile_model import profile_model_command

        profile_model_command(args, args.model)
    elif args.breakdown:
        from jmsnas.cli.profile_breakdown import profile_breakdown_command

        profile_breakdown_command(args)
    else:
        from jmsnas.cli.profile_space import profile_space_command

        profile_space_command(args)
