"""Size of the packages: few plain files beside subpackages, about twenty files in a package."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("profiler", "estimators", "nas", "jmsnas/deploy")
PACKAGES = sorted(path.parent for top in TOP for path in (ROOT / top).glob("*/__init__.py"))


def plain_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("top", TOP)
def test_a_top_package_is_made_of_subpackages(top: str) -> None:
    assert len(plain_files(ROOT / top)) <= 8


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_shows_its_few_files(package: Path) -> None:
    assert 1 <= len(plain_files(package)) <= 22


def test_tests_mirror_the_source_tree() -> None:
    tests = [
        path for top in TOP for path in (ROOT / "tests" / top.removeprefix("jmsnas/")).rglob("test_*.py")
    ]
    assert tests
    for path in tests:
        source = path.relative_to(ROOT / "tests").parent
        assert any((ROOT / base / source).is_dir() for base in ("", "jmsnas")), path


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [
        path.parent for top in ("datasets", *TOP, "jmsnas") for path in (ROOT / top).rglob("__init__.py")
    ]
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(listed) == {name if name.startswith("jmsnas") else f"jmsnas.{name}" for name in names}
