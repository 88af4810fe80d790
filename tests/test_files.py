import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from disk_events import disk_events
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.deploy.transport.devices_file import read_devices_file
from jmsnas.errors import InputError, SpaceError, StorageError, TopologyError
from jmsnas.files import (
    find_toml,
    make_folder,
    parse_json,
    parse_toml,
    preset_names,
    preset_path,
    read_json,
    read_toml,
    refuse_unknown_keys,
    write_atomic,
    write_json,
)
from jmsnas.nas.run_result import read_result
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.space_file import load_space, space_from_toml
from jmsnas.topology import load_topology, topology_from_toml


def test_write_then_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"median_s": 0.5})
    write_json(tmp_path / "new" / "a.json", {"median_s": 0.25})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"median_s": 0.25}
    assert os.listdir(tmp_path / "new") == ["a.json"]


def test_content_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = disk_events(monkeypatch)
    write_atomic(tmp_path / "a", b"content")
    synced, renamed = events
    assert (synced[0], renamed[0]) == ("fsync", "replace") and synced[1] == renamed[1]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    # A file size limit fails a write as a full disk does, for root as well.
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from jmsnas.files import write_atomic\n"
        "from jmsnas.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 100000)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout and "Nothing was overwritten" in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write .*file.*choose another folder with --workspace"):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "file" / "a", b"")


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = " + b"[" * 50, b'a = "'])
def test_a_broken_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "n.toml").write_bytes(content)
    with pytest.raises(TopologyError, match="n.toml is not a TOML file"):
        read_toml(tmp_path / "n.toml", TopologyError)


def test_a_toml_that_is_missing_or_huge(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot read .*none.toml: No such file"):
        read_toml(tmp_path / "none.toml", TopologyError)
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(TopologyError, match="larger than 1048576 bytes"):
        read_toml(tmp_path / "big.toml", TopologyError)


def test_unknown_keys_are_named() -> None:
    with pytest.raises(
        TopologyError, match="x.toml has unknown keys colour, sise: expected some of name, size"
    ):
        refuse_unknown_keys({"name": 1, "sise": 2, "colour": 3}, ("name", "size"), "x.toml", TopologyError)


def test_presets_are_there() -> None:
    assert {"digits", "imagenet"} <= set(preset_names("spaces"))
    assert {"chain", "desk"} <= set(preset_names("topologies"))


def test_a_topology_in_the_old_folder_is_to_be_moved(tmp_path: Path) -> None:
    user_folder = tmp_path / "topologies"
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "chain.toml").write_text("")
    with pytest.raises(TopologyError, match="networks/chain.toml .* no longer read: move it to .*topologies"):
        find_toml("topologies", "chain", user_folder, TopologyError)
    user_folder.mkdir()
    (tmp_path / "networks" / "chain.toml").rename(user_folder / "chain.toml")
    assert find_toml("topologies", "chain", user_folder, TopologyError) == user_folder / "chain.toml"


HOSTILE_TOML = {
    "integer": (b"a = " + b"9" * 5000, "more than 256 characters"),
    "integer of 300 digits in a list": (b"a = [1, " + b"9" * 200 + b"]", "more than 64 bits"),
    "integer with underscores": (b"a = " + b"9_9" * 40, "more than 64 bits"),
    "hexadecimal": (b"a = 0x" + b"f" * 17, "more than 64 bits"),
    "key of many parts": (b"a." * 10_000 + b"b = 1", "a key or number of more than"),
    "key with spaces and tabs": (b"a \t. " * 20 + b"b = 1", "16 parts"),
    "quoted key of many parts": (b"\"a.b\".'c'." * 20 + b"b = 1", "16 parts"),
    "header of many parts": (b"[" + b"a." * 10_000 + b"b]", "a key or number of more than"),
    "long key": (b"a" * 5000 + b" = 1", "more than 256 characters"),
    "deep list": (b"a = " + b"[" * 5000 + b"]" * 5000, "more than 64 levels"),
    "deep tables": (b"a = " + b"{b = " * 100 + b"1" + b"}" * 100, "more than 64 levels"),
    "long string without end": (b'a = "' + b'\\"' * 500_000, "not a TOML file"),
    "many strings without end": (b'a = """' + b'\\"""' * 200_000, "not a TOML file"),
}


@pytest.mark.parametrize("kind", HOSTILE_TOML)
def test_a_hostile_toml_is_refused_before_it_is_parsed(kind: str, tmp_path: Path) -> None:
    content, words = HOSTILE_TOML[kind]
    (tmp_path / "n.toml").write_bytes(content)
    # Without the limits the keys of 10,000 parts take a minute, in a parser that no signal stops sooner.
    for load in (load_topology, load_general_topology, load_space):
        with pytest.raises(InputError, match=words) as error:
            load(str(tmp_path / "n.toml"))
        assert len(str(error.value)) < 500
    with pytest.raises(InputError, match=words):
        read_problem(tmp_path / "n.toml")
    with pytest.raises(InputError, match=words):
        read_devices_file(tmp_path / "n.toml")


def test_what_looks_hostile_inside_of_a_string_or_comment_is_text() -> None:
    inside = "a." * 100 + "[" * 100 + "9" * 300
    text = f'# {inside} "\na = "{inside}"\nb = \'{inside}\'\nc = """\n{inside}\\""" \n"""\n\'\'\'\n'
    text = text.removesuffix("'''\n") + f"d = '''\n{inside}\n'''\ne.f.g = 1.5e-3\n"
    found = parse_toml(text.encode(), Path("n.toml"), TopologyError)
    assert found["a"] == found["b"] == inside and found["e"] == {"f": {"g": 1.5e-3}}
    assert parse_toml(b"a = [-9223372036854775808, 0x7fff_ffff_ffff_ffff]", Path("n"), TopologyError)


def test_presets_are_far_below_the_limits() -> None:
    for kind in ("spaces", "topologies", "devices"):
        for name in preset_names(kind):
            assert read_toml(preset_path(kind, name), TopologyError)


JUNK = st.sampled_from(
    [
        *"\"'#[]{}=.,\n\\ \t",
        "a",
        "9",
        "9" * 30,
        "a.b",
        "1e999",
        "\u00e9",
        "nan",
        "[[device]]",
        "name",
        '"""',
        "\x00",
    ]
)


@given(st.lists(JUNK, max_size=60).map("".join))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused_by_the_error_of_the_caller(text: str) -> None:
    for parse in (
        lambda: topology_from_toml(parse_toml(text.encode(), Path("n.toml"), TopologyError), "n.toml"),
        lambda: space_from_toml(parse_toml(text.encode(), Path("n.toml"), SpaceError), "n.toml"),
        lambda: parse_json(text.encode(), dict[str, Any], Path("n.json"), TopologyError, "Delete it"),
    ):
        with suppress(InputError):
            parse()


HOSTILE_JSON = {
    "integer": b'{"a": ' + b"9" * 10_000 + b"}",
    "integer of 30 digits": b'{"a": ' + b"9" * 30 + b"}",
    "deep list": b"[" * 100_000,
    "deep list with end": b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deep object": b'{"a":' * 100_000,
    "not a number": b'{"a": NaN}',
    "infinite": b'{"a": 1e999}',
    "half of a pair": b'{"a": "\\ud800"}',
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE_JSON)
def test_a_hostile_json_is_one_line_with_the_remedy(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(HOSTILE_JSON[kind])
    with pytest.raises(
        TopologyError, match=r"result.json is damaged, or not as expected .*\. Delete it$"
    ) as error:
        read_json(path, dict[str, Any], TopologyError, "Delete it")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    for read in (lambda: read_result(tmp_path), lambda: read_problem(path)):
        with pytest.raises(InputError, match="result.json"):
            read()


def test_json_text_may_have_what_looks_hostile(tmp_path: Path) -> None:
    text = "[" * 100 + "9" * 30 + '"'
    write_json(tmp_path / "a.json", {"a": text, "b": 0.30000000000000004, "c": 2**63 - 1})
    found = read_json(tmp_path / "a.json", dict[str, Any], TopologyError, "")
    assert found == {"a": text, "b": 0.30000000000000004, "c": 2**63 - 1}
