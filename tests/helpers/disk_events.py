"""Record the fsync and rename calls of this process, each with the inode of its file."""

import os

import pytest


def disk_events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    events: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(file: int) -> None:
        fsync(file)
        events.append(("fsync", os.fstat(file).st_ino))

    def noted_replace(source: str, target: str) -> None:
        events.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return events
