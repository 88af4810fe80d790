import pickle
from pathlib import Path

import pytest
import torch

from jmsnas.errors import InputError, StorageError
from jmsnas.nas.supernet.checkpoint import read_checkpoint, write_checkpoint

STATE = {"weights": {"w": torch.arange(6.0).reshape(2, 3)}, "epoch": 3, "history": [{"loss": 0.5, "x": None}]}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert read_checkpoint(path) is None
    write_checkpoint(path, STATE)
    back = read_checkpoint(path)
    assert back is not None and back["epoch"] == 3 and back["history"] == STATE["history"]
    assert torch.equal(back["weights"]["w"], torch.arange(6.0).reshape(2, 3))


def test_every_changed_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, STATE)
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(
            InputError, match="is damaged or no checkpoint of this version: remove it to start"
        ):
            read_checkpoint(path)
        path.write_bytes(content[:at])
        with pytest.raises(InputError, match="is damaged or no checkpoint"):
            read_checkpoint(path)


class _Harmful:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (str(self.canary),))


def test_a_foreign_pickle_never_runs(tmp_path: Path) -> None:
    path, canary = tmp_path / "checkpoint.pt", tmp_path / "canary"
    path.write_bytes(pickle.dumps(_Harmful(canary)))
    with pytest.raises(InputError, match="is damaged or no checkpoint"):
        read_checkpoint(path)
    write_checkpoint(path, {"harm": _Harmful(canary)})  # the digest holds, the content is refused
    with pytest.raises(InputError, match="cannot be read: .*Remove it to start this search again"):
        read_checkpoint(path)
    assert not canary.exists()


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, STATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="cannot write .*checkpoint.pt: No space left on device"):
        write_checkpoint(path, {**STATE, "epoch": 4})
    back = read_checkpoint(path)
    assert back is not None and back["epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
