import csv
import json
import tomllib
from pathlib import Path

import pytest
from split_problems import NAMES, worked_mesh_toml, worked_problem, worked_toml
from worked_example import OUT_BYTES, TAU_MS

from jmsnas.device import Device
from jmsnas.errors import InputError, TopologyError
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import read_problem

TOPOLOGY = GeneralTopology(tuple(Device(n, n, "") for n in NAMES), worked_problem().links)


def test_toml_and_json_are_one_table(tmp_path: Path) -> None:
    path = worked_toml(tmp_path / "worked.toml")
    problem, own = read_problem(path)
    assert own == {"policy": "strict"} and problem.units[0] == "layer 1" and problem.weight_bytes_N[0] == 1e6
    assert (problem.tau_NM == worked_problem().tau_NM).all() and problem.links == worked_problem().links
    other = tmp_path / "worked.json"
    other.write_text(json.dumps(tomllib.loads(path.read_text())))
    again, _ = read_problem(other)
    assert (again.tau_NM == problem.tau_NM).all() and again.input_bytes == problem.input_bytes


def test_csv_takes_its_links_from_a_topology(tmp_path: Path) -> None:
    path = tmp_path / "worked.csv"
    # The columns stand in another order than the topology's devices.
    order = [2, 0, 3, 1]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "bytes", "weights", *(NAMES[m] for m in order)])
        writer.writerow(["input:uint8", 150528, "", *[""] * 4])
        writer.writerow(["input:float32", 602112, "", *[""] * 4])
        for n, (size, times) in enumerate(zip(OUT_BYTES[1:], TAU_MS, strict=True)):
            writer.writerow([f"layer {n}", size, "1MB" if n else "", *(f"{times[m]}ms" for m in order)])
    problem, own = read_problem(path, TOPOLOGY)
    result = split(problem, SplitRequest("float32", "relay"))
    assert result.timeline.latency_s * 1e3 == pytest.approx(148.262640, abs=5e-7) and own == {}
    assert problem.weight_bytes_N[:2].tolist() == [0, 1e6]


def test_branches_and_graphs(tmp_path: Path) -> None:
    path = tmp_path / "dag.toml"
    path.write_text(
        'inputs = { uint8 = "1kB" }\n[[device]]\nname = "a"\npower = "4W"\n[[device]]\nname = "b"\n'
        '[[link]]\nfrom = "a"\nto = "b"\nrate = "8Mbit/s"\ndelay = "1ms"\n[[link]]\nfrom = "b"\nto = "a"\n'
        'rate = "8Mbit/s"\n[[layer]]\nname = "fork"\nbytes = 10\ntau = ["1ms", "1ms"]\n'
        '[[layer]]\nname = "left"\nbytes = 10\ntau = ["1ms", "1ms"]\n[[layer]]\nname = "right"\nbytes = 10\n'
        'tau = ["1ms", "1ms"]\nafter = ["fork"]\n[[layer]]\nname = "join"\nbytes = 10\n'
        'tau = ["1ms", "1ms"]\nafter = ["left", "right"]\n'
    )
    problem, _ = read_problem(path)
    assert (
        problem.inputs == ((0,), (1,), (1,), (2, 3))
        and not problem.is_chain_topology
        and problem.devices[0].power_w == 4.0
    )
    # Everything on a: 4 ms, and the energy of it: 16 mJ.
    timeline = split(problem, SplitRequest("uint8", "stop-early")).timeline
    assert timeline.latency_s == pytest.approx(4e-3) and timeline.energy_j == pytest.approx(16e-3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('rate = "25Mbit/s"', 'rate = "0Mbit/s"', "link ue -> sbs has rate 0 Mbit/s: expected more than 0"),
        ('rate = "25Mbit/s"', 'rate = "fast"', "'fast' is not a link rate"),
        ('to = "cloud"', 'to = "sbs"', "the topology is disconnected: no route leads from ue to cloud"),
        (
            'to = "cloud"',
            'to = "moon"',
            "link mbs -> moon names the unknown device moon: expected one of ue, sbs, mbs, cloud",
        ),
        (
            'tau = ["12.4ms", ',
            "tau = [",
            "layer layer 1 has 3 times, expected one for each of ue, sbs, mbs, cloud",
        ),
        ('"12.4ms"', '"-1ms"', "'-1ms' is not a duration"),
        ("bytes = 4000", "bytes = -4000", "a size of -4000 bytes: expected a number of 0 or more"),
        (
            "bytes = 4000",
            "size = 4000",
            r"Object contains unknown field `size` - at `\$.layer\[8\]`. See docs/split.md",
        ),
        (
            "bytes = 4000",
            "",
            r"Object missing required field `bytes` - at `\$.layer\[8\]`. See docs/split.md",
        ),
        (
            "bytes = 4000",
            'bytes = 4000\nafter = ["layer 12"]',
            "comes after layer 12: expected `input` or layers",
        ),
        ("bytes = 4000", 'bytes = 4000\nafter = ["input"]', "no unit reads output 8: expected readers"),
        ('name = "worked"', "name = [", "is not a TOML file"),
        ('name = "worked"', 'nme = "worked"', "Object contains unknown field `nme`"),
        ("inputs = {", "inputs = 3 #", r"Expected `object`, got `int` - at `\$.inputs`"),
        ('name = "sbs"', 'name = "ue"', "devices of different names"),
    ],
)
def test_what_no_table_can_be(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = worked_toml(tmp_path / "worked.toml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=words) as caught:
        problem, _ = read_problem(path)
        split(problem, SplitRequest("uint8", "relay"))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a table ending in .toml, .json or .csv"):
        read_problem(tmp_path / "costs.xlsx")
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        read_problem(tmp_path / "nothing.json")
    for name, content, words in (
        ("a.json", b"[1]", "Expected `object`, got `array`"),
        ("b.json", b"{", "b.json is damaged, or not as expected .Input data was truncated"),
        ("c.csv", b"a,b\n1,2\n", "lacks a column layer or bytes"),
        (
            "d.csv",
            b"layer,bytes,ue\nx,1\n",
            "row 1 has 2 cells, expected 3 as in the first line, separated by commas",
        ),
        ("e.csv", b"\xff\xfe\x00", "is not text"),
        ("g.csv", b"layer,bytes,ue,sbs,mbs,cloud\nx,many,1ms,1ms,1ms,1ms\n", "'many' is not a size"),
        ("f.csv", b"layer,bytes,ue\nx,1,1ms\n", "has times of ue, the topology has ue, sbs, mbs, cloud"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_problem(tmp_path / name, TOPOLOGY)


def test_a_tree_needs_branches(tmp_path: Path) -> None:
    path = worked_mesh_toml(tmp_path / "mesh.toml")
    text = path.read_text()
    for old, new, message in (
        ("after = ['layer 5']", "after = ['layer 4']", "has a .tree.: expected layers that fork once"),
        ('root = "sbs"', 'root = "server"', "has a tree of root 'server'"),
        ('root = "sbs"', 'root = "sbs"\nleaf = 1', "unknown field `leaf`"),
        ('{ mbs1 = "1.4ms" }', '{ mbs9 = "1.4ms" }', "mbs9"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=message):
            read_problem(path)
    chain = worked_toml(path)
    chain.write_text(
        chain.read_text().replace('tau = ["12.4ms", "0.42ms", "0.71ms", "0.21ms"]', 'tau = { ue = "1ms" }')
    )
    with pytest.raises(InputError, match="leaves out times: expected one per device"):
        read_problem(path)


def mesh_table(branches: int, **more: object) -> dict[str, object]:
    """A table of a trunk layer, branches of one layer each, and a tail layer, over two children."""
    tau = {"a": "9ms", "b": "9ms"}
    hops = [("ue", "a"), ("ue", "b"), ("a", "cloud"), ("b", "cloud")]
    names = [f"branch {b}" for b in range(branches)]
    own = [
        {"name": name, "bytes": 1000 * b, "tau": tau, "after": ["stem"]} for b, name in enumerate(names, 1)
    ]
    return {
        "inputs": {"uint8": 1000},
        "device": [{"name": name} for name in ("ue", "a", "b", "cloud")],
        "link": [{"from": a, "to": b, "rate": "8Mbit/s"} for a, b in hops],
        "tree": {"root": "ue", "children": ["a", "b"]},
        "layer": [
            {"name": "stem", "bytes": 1000, "tau": {"ue": "5ms"}},
            *own,
            {"name": "head", "bytes": 4, "tau": {"cloud": "1ms"}, "after": names, **more},
        ],
    }


def test_branches_of_a_tree(tmp_path: Path) -> None:
    path = tmp_path / "mesh.json"

    def read(table: dict[str, object]) -> SplitProblem:
        path.write_text(json.dumps(table))
        return read_problem(path)[0]

    # One branch: a chain of layers, over one of the children; 5 + 1 + 9 + 1 + 1 ms.
    problem = read(mesh_table(1))
    found = split(problem, SplitRequest("uint8", "relay"))
    assert found.timeline.latency_s == pytest.approx(0.017) and found.proven
    assert found.devices[1] in (1, 2)
    with pytest.raises(TopologyError, match="policy strict gives every device a layer"):
        split(problem, SplitRequest("uint8", "strict"))
    # Two branches of unlike ends: concatenated, unless their sum is asked for.
    assert read(mesh_table(2)).joined_bytes == read(mesh_table(2, join="concat")).joined_bytes == 3000
    assert read(mesh_table(2, join="sum")).joined_bytes == 2000
    assert split(read(mesh_table(2)), SplitRequest("uint8", "strict")).proven
    for table, message in (
        (mesh_table(3), "expected layers that fork once, into as many branches as children at most .2."),
        (mesh_table(1, join="sum"), "layer head has a `join`: expected one layer"),
        (mesh_table(2, join="product"), "Invalid enum value 'product'"),
    ):
        with pytest.raises(InputError, match=message):
            read(table)
    # Nothing reads the ends of the branches.
    table = mesh_table(2)
    del table["layer"][-1]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="one layer `after` the ends of all branches"):
        read(table)
