"""The README, the pages of docs and the commands give the same figures."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")])
ROWS = dict(re.findall(r"^\| ([A-Z]\d+) \| (.*)$", GUARANTEES, re.MULTILINE))


def paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\n|\n\|", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_of_a_guarantee_are_those_of_its_row(page: Path) -> None:
    if page.name == "guarantees.md":
        return
    for paragraph in paragraphs(page.read_text()):
        for name in re.findall(r"\(([A-Z]\d+): ", paragraph):
            row = ROWS[name]
            missing = [
                number
                for number in re.findall(r"(?<![\w.,])\d[\d,.]*\d|(?<![\w.,])\d(?![\w.,])", paragraph)
                if not re.search(rf"(?<![\d.,]){re.escape(number)}(?!\d)", row)
            ]
            assert not missing, f"{page.name}: {name} has other figures in docs/guarantees.md: {missing}"


def test_readme_has_the_failed_requests_of_a1() -> None:
    (failed,) = re.findall(r"([\d,]+) requests failed", ROWS["A1"])
    (answers,) = re.findall(r"([\d,]+) answers", ROWS["A1"])
    found = " ".join(README.split())
    assert f"{failed} requests failed with an error" in found and f"{answers} answers" in found


def test_duration_of_the_quickstart_and_the_python_are_the_same_everywhere() -> None:
    helps = CliRunner().invoke(app, ["quickstart", "--help"], env={"COLUMNS": "200"}).stdout
    assert "in about five minutes" in README and "in about five minutes" in helps
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"Python {requires.removeprefix('>=')} or newer" in README


def test_version_of_a_wheel_is_that_of_the_command() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CliRunner().invoke(app, ["--version"]).stdout == f"jmsnas {version}\n"
