"""M1: each mutation of one line of the source in mutants.toml turns its test red.

`make mutants` runs this file alone. A mutation that goes unnoticed is a property that no test checks.
"""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prove.proof import LEVEL, Proof

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "docs", "benchmarks", "examples"
)


@dataclass(frozen=True)
class Mutant:
    """A mutation: `old`, once in `file`, becomes `new`; `test` is the node id of the test that must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def source(self) -> str:
        return (ROOT / self.file).read_text()

    @property
    def mutated(self) -> str:
        return self.source().replace(self.old, self.new)


MUTANTS = [
    Mutant(**one) for one in tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())["mutant"]
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutation_fits_the_source(mutant: Mutant) -> None:
    assert mutant.source().count(mutant.old) == 1, f"{mutant.file}: expected the old line exactly once"
    assert mutant.old != mutant.new
    ast.parse(mutant.mutated)
    path, _, function = mutant.test.partition("::")
    functions = {
        node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")
    }
    assert function.partition("[")[0] in functions, f"{mutant.test} does not exist"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the source in which all named tests pass."""
    copy = tmp_path_factory.mktemp("mutants") / "tree"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_COPIED)
    done = run(copy, *sorted({mutant.test for mutant in MUTANTS}))
    assert done.returncode == 0, done.stdout[-3000:]
    yield copy


@pytest.mark.skipif(not LEVEL, reason="a test run for each mutation: make mutants")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutation_turns_its_test_red(tree: Path, mutant: Mutant, proof: Proof) -> None:
    path = tree / mutant.file
    path.write_text(mutant.mutated)
    try:
        done = run(tree, mutant.test)
    finally:
        path.write_text(mutant.source())
    assert done.returncode == 1 and "failed" in done.stdout, f"not noticed: {done.stdout[-2000:]}"
    proof.show("mutation noticed")


def run(tree: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(tree), "JMSNAS_PROVE": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=500)
