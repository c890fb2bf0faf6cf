"""The keys of the center's map in one spelling: ``Db:Host``, ``db.host`` and ``DB__HOST`` all reach the field ``db.host``.

``:`` is the separator of the platform (protocol.md §6.4), dots are common in Python programs, ``__`` is the environment's.
Case never matters: the server's own map ignores it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DELIMITER = "__"


def normalise(key: str) -> str:
    """The one spelling under which a remote key is looked up."""
    return key.lower().replace(":", DELIMITER).replace(".", DELIMITER)


@dataclass(frozen=True, slots=True)
class Collision:
    """Two remote keys that mean the same field; ``winner`` is used."""

    winner: str
    loser: str


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """A remote map, indexed once per fetch.

    ``variables`` has every value under its normalised spelling and, for aliases with dots, under its own lower-cased one;
    ``origins`` says which key of the center that was; ``groups`` has the keys with levels by their first level, shallow
    ones first, so that a build looks only at what can belong to a field.
    """

    variables: Mapping[str, str]
    origins: Mapping[str, str]
    groups: Mapping[str, Mapping[str, str]]
    collisions: tuple[Collision, ...]


def _rank(key: str) -> tuple[int, bool, str]:
    """Exact spelling first, then the platform's separator, then dots; lower case before the rest; then the alphabet."""
    separator = 2 if "." in key else 1 if ":" in key else 0
    return separator, key != key.lower(), key


def index(values: Mapping[str, str], prefix: str = "") -> RemoteKeys:
    """Index ``values``; with a ``prefix`` only the keys below it count, and they are named without it."""
    start = normalise(prefix)
    chosen: dict[str, str] = {}
    collisions: list[Collision] = []
    for key in values:
        name = normalise(key)
        if start:
            if not name.startswith(start):
                continue
            name = name[len(start) :]
            if start[-1].isalnum() and not name.startswith(DELIMITER):
                continue  # the prefix "shop" is a level: it does not cut words such as "shopping"
            name = name.removeprefix(DELIMITER)
        other = chosen.setdefault(name, key)
        if other is not key:
            winner, loser = sorted((other, key), key=_rank)
            chosen[name] = winner
            collisions.append(Collision(winner, loser))
    variables: dict[str, str] = {}
    grouped: dict[str, list[str]] = {}
    for name, key in chosen.items():
        variables[name] = values[key]
        head, delimiter, _ = name.partition(DELIMITER)
        if delimiter:
            grouped.setdefault(head, []).append(name)
            if not start:
                variables.setdefault(key.lower(), values[key])
    groups = {
        head: {name: variables[name] for name in sorted(names, key=lambda name: (name.count(DELIMITER), name))}
        for head, names in grouped.items()
    }
    return RemoteKeys(variables, chosen, groups, tuple(collisions))
