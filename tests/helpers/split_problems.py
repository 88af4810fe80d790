"""Costs for tests: the worked network, and small random networks over devices in line."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
from worked_example import OUT_BYTES, RATE_MBPS, TAU_MS

from jmsnas.device import Device
from jmsnas.nas.graph.fork_join import MeshTree, fork_join_inputs
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.topology import Link

NAMES = ("ue", "sbs", "mbs", "cloud")


def worked_problem(power: bool = False) -> SplitProblem:
    tau_NM = np.array(TAU_MS) * 1e-3
    watts = ((4.0, 1.0), (40.0, 2.0), (None, None), (None, None)) if power else ((None, None),) * 4
    hops = zip(NAMES, NAMES[1:], RATE_MBPS, strict=False)
    return SplitProblem(
        model="worked",
        units=tuple(f"layer {n}" for n in range(1, 10)),
        devices=tuple(
            Device(n, n, "", power_w=w, send_power_w=s) for n, (w, s) in zip(NAMES, watts, strict=True)
        ),
        tau_NM=tau_NM,
        low_NM=tau_NM,
        high_NM=tau_NM,
        output_bytes_N=np.array(OUT_BYTES[1:], dtype=float),
        input_bytes={"uint8": 150528.0, "float32": 602112.0},
        links=tuple(Link(source, target, rate * 1e6) for source, target, rate in hops),
        inputs=tuple((n,) for n in range(9)),
        weight_bytes_N=np.full(9, 1e6),
        peak_bytes_N=np.zeros(9),
    )


def random_problem(rng: np.random.Generator, inputs: tuple[tuple[int, ...], ...], M: int) -> SplitProblem:
    N, names = len(inputs), [f"d{m}" for m in range(M)]
    tau_NM = rng.uniform(0.1, 1, (N, M)) * rng.uniform(0.1, 1, M)
    return SplitProblem(
        model="random",
        units=tuple(f"u{n}" for n in range(N)),
        devices=tuple(
            Device(name, name, "", power_w=1.0 + m, send_power_w=0.5) for m, name in enumerate(names)
        ),
        tau_NM=tau_NM,
        low_NM=0.9 * tau_NM,
        high_NM=1.2 * tau_NM,
        output_bytes_N=rng.uniform(0, 1, N),
        input_bytes={"uint8": float(rng.uniform(0, 1))},
        links=tuple(
            Link(a, b, 8 / 10 ** rng.uniform(-2, 0.5), float(rng.choice([0, 0.01])))
            for a, b in zip(names, names[1:], strict=False)
        ),
        inputs=inputs,
        weight_bytes_N=np.zeros(N),
        peak_bytes_N=np.zeros(N),
    )


def with_calls(problem: SplitProblem, rng: np.random.Generator) -> SplitProblem:
    """Give each device a call of up to half a second."""
    devices = tuple(replace(device, call_s=float(rng.uniform(0, 0.5))) for device in problem.devices)
    return replace(problem, devices=devices)


MESH = ("ue", "root", "a", "b", "c", "behind", "cloud")


def mesh_problem(rng: np.random.Generator, fan_out: str, branches: int = 2) -> SplitProblem:
    """Three layers, branches of one layer and of two, three layers; three children, two devices behind."""
    lengths = [1, 2, 1][:branches]
    begins = np.cumsum([3, *lengths]).tolist()
    places = [list(range(a, b)) for a, b in itertools.pairwise(begins)]
    N, M = begins[-1] + 3, len(MESH)
    sizes = rng.uniform(0, 1, N)
    for place in places:
        sizes[place[-1]] = 0.5
    tau_NM = rng.uniform(0.1, 1, (N, M)) * rng.uniform(0.1, 1, M)
    hops = [
        ("ue", "root"),
        *(("root", k) for k in "abc"),
        *((k, "behind") for k in "abc"),
        ("behind", "cloud"),
    ]
    return SplitProblem(
        model="random",
        units=tuple(f"u{n}" for n in range(N)),
        devices=tuple(Device(name, name, "") for name in MESH),
        tau_NM=tau_NM,
        low_NM=tau_NM,
        high_NM=tau_NM,
        output_bytes_N=sizes,
        input_bytes={"uint8": float(rng.uniform(0, 1))},
        links=tuple(Link(*hop, 8 / 10 ** rng.uniform(-2, 0.5), 0.01) for hop in hops),
        inputs=fork_join_inputs(N, places),
        weight_bytes_N=np.ones(N),
        peak_bytes_N=np.zeros(N),
        tree=MeshTree("root", ("a", "b", "c"), fan_out),
    )


def worked_mesh_toml(path: Path, fan_out: str = "broadcast", extra: str = "") -> Path:
    """Write Fig. 2(b) as a table of costs: layers 1 to 5, three branches of two layers, layers 8 and 9.

    The UE may run three layers, so that the split is that of the worked example.
    """
    names = ("ue", "sbs", "mbs1", "mbs2", "mbs3", "cloud")
    lines = ['name = "mesh"', 'policy = "strict"', "inputs = { uint8 = 150528 }", f'fan_out = "{fan_out}"']
    lines += ["[tree]", 'root = "sbs"', 'children = ["mbs1", "mbs2", "mbs3"]', extra]
    lines += [f'[[device]]\nname = "{name}"' + "\nmax_layers = 3" * (name == "ue") for name in names]
    hops = [("ue", "sbs", 25)] + [("sbs", f"mbs{k}", 50) for k in (1, 2, 3)]
    for source, target, rate in hops + [(f"mbs{k}", "cloud", 200) for k in (1, 2, 3)]:
        lines.append(f'[[link]]\nfrom = "{source}"\nto = "{target}"\nrate = "{rate}Mbit/s"')

    def layer(name: str, size: int, tau_ms: dict[str, float], after: list[str]) -> None:
        tau = ", ".join(f'{device} = "{its}ms"' for device, its in tau_ms.items())
        lines.append(f'[[layer]]\nname = "{name}"\nbytes = {size}\ntau = {{ {tau} }}\nafter = {after}')

    for n in range(1, 6):
        times = dict(zip(("ue", "sbs"), TAU_MS[n - 1], strict=False))
        layer(f"layer {n}", OUT_BYTES[n], times, [f"layer {n - 1}" if n > 1 else "input"])
    for k, tau_ms in enumerate(((1.4, 1.1), (2.188, 1.625), (1.68, 1.28)), 1):
        layer(f"branch {k} first", 9000, {f"mbs{k}": tau_ms[0]}, ["layer 5"])
        layer(f"branch {k} second", 3136 * (k + 1), {f"mbs{k}": tau_ms[1]}, [f"branch {k} first"])
    layer("layer 8", OUT_BYTES[8], {"cloud": TAU_MS[7][3]}, [f"branch {k} second" for k in (1, 2, 3)])
    layer("layer 9", OUT_BYTES[9], {"cloud": TAU_MS[8][3]}, ["layer 8"])
    path.write_text("\n".join(lines) + "\n")
    return path


def worked_toml(path: Path, extra: str = "") -> Path:
    """Write the worked network as a table of costs."""
    lines = ['name = "worked"', 'policy = "strict"', "inputs = { uint8 = 150528, float32 = 602112 }", extra]
    lines += [f'[[device]]\nname = "{name}"' for name in NAMES]
    for source, target, rate in zip(NAMES, NAMES[1:], RATE_MBPS, strict=False):
        lines.append(f'[[link]]\nfrom = "{source}"\nto = "{target}"\nrate = "{rate}Mbit/s"')
    for n, (size, times) in enumerate(zip(OUT_BYTES[1:], TAU_MS, strict=True), 1):
        tau = ", ".join(f'"{time}ms"' for time in times)
        lines.append(f'[[layer]]\nname = "layer {n}"\nbytes = {size}\ntau = [{tau}]\nweights = 1000000')
    path.write_text("\n".join(lines) + "\n")
    return path
