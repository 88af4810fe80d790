import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from jmsnas.errors import StorageError, TopologyError
from jmsnas.files import (
    find_toml,
    make_folder,
    preset_names,
    read_toml,
    refuse_unknown_keys,
    write_atomic,
    write_json,
)


def test_write_then_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"median_s": 0.5})
    write_json(tmp_path / "new" / "a.json", {"median_s": 0.25})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"median_s": 0.25}
    assert os.listdir(tmp_path / "new") == ["a.json"]


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


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = " + b"[" * 5000])
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
