"""What an integration is, and what ``doctor`` can know of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches


@dataclass(frozen=True, slots=True)
class Integration:
    """The contract of one integration.

    Attributes:
        name: switch ``STARDUST_INSTRUMENT_<NAME>``, and what ``doctor`` shows.
        targets: module name -> function that patches the imported module through ``Patches.wrap``.
        supports: lowest version by distribution name; a standard library module has none.
    """

    name: str
    targets: Mapping[str, Callable[[ModuleType, Patches], None]]
    supports: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Status:
    """What ``doctor`` shows of one target.

    ``state``: ``waiting`` (not imported), ``hooked``, ``off`` (switched off by a setting), ``disabled`` (at run time),
    ``paused`` (too many faults of its own, for a time), ``unsupported`` (version), ``failed``; ``reason`` says why.
    ``covered``: attribute -> module that wrapped on top of us.
    """

    integration: str
    module: str
    state: str
    version: str = ""
    reason: str = ""
    attributes: tuple[str, ...] = ()
    covered: tuple[tuple[str, str], ...] = ()
    faults: int = 0


def version_of(package: str) -> str:
    """Version of an imported package: its ``__version__``, else that of its distribution, else that of Python."""
    version = vars(sys.modules.get(package, sys)).get("__version__")  # not getattr: some packages warn about it
    if isinstance(version, str):
        return version
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as distribution_version

    try:
        return distribution_version(package)
    except PackageNotFoundError:
        return ".".join(map(str, sys.version_info[:3]))


def numbers(version: str) -> tuple[int, ...]:
    """``2.31.0rc1`` as ``(2, 31, 0)``."""
    numbers = []
    for part in version.split(".")[:3]:
        digits = ""
        for character in part:
            if not character.isdigit():
                break
            digits += character
        numbers.append(int(digits or 0))
    return tuple(numbers)
