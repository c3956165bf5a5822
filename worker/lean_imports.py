"""Importing diffusers and transformers without what they look up and throw away: 0.3 to 0.6 s of each start.

transformers reads all of its 1,700 model files for the names in them, twice; diffusers lists which distribution every
installed module is from, and asks for three that are rarely there. Whatever is not as expected here is left alone.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: The module that reads model files, and its function that does so for a folder.
LISTING, LIST_FOLDER = "transformers.utils.import_utils", "create_import_structure_from_path"

Names = Mapping[str, list[str]]


class Late(Mapping[str, list[str]]):
    """A mapping that is made when it is first looked at."""

    def __init__(self, make: Callable[[], Names]) -> None:
        self._make = functools.cache(make)

    def __getitem__(self, name: str) -> list[str]:
        return self._make()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())

    def __bool__(self) -> bool:
        return True  # asked before anything is looked up


class ListsOnce(importlib.abc.MetaPathFinder):
    """Has transformers remember what it read in a folder."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == LISTING else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            with contextlib.suppress(AttributeError):
                setattr(module, LIST_FOLDER, functools.cache(getattr(module, LIST_FOLDER)))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """While inside, imports do without both; a thread that imports meanwhile does, too."""
    finder, list_all = ListsOnce(), importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = lambda: Late(list_all)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        importlib.metadata.packages_distributions = list_all
