"""Callable packages: `jmsnas.deploy(run)` and `jmsnas.report(run)` call the function of the same name."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of `jmsnas.api` that has the package's name."""
        return getattr(import_module("jmsnas.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(package: str) -> None:
    """Make the package `jmsnas.NAME` call `jmsnas.api.NAME`, which loads nothing until it is called."""
    sys.modules[package].__class__ = _CallablePackage
