"""Shaping remote texts into nested input, and yielding to stronger sources in every spelling of a field.

pydantic-settings merges sources by the key that each of them happened to match. Two spellings of one field then live side by side and
pydantic picks by alias order, not by strength: an environment variable given by field name would lose to a remote value
given by alias. :func:`yield_to` settles that before the merge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stardust_auto.config.remote.keys import normalise

if TYPE_CHECKING:
    from stardust_auto.config.typed.schema import FieldNode, Key

_ABSENT: Any = object()


def shape(node: FieldNode, value: Any) -> Any:
    """Numbered keys become lists, JSON texts below the first level are decoded, names get their declared case."""
    if isinstance(value, str):
        if (
            not node.decodes
            or not (node.models or node.sequence or node.mapping)
            or value.lstrip()[:1] not in ("{", "[")
        ):
            return value
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        if node.sequence and not node.models and value and all(str(key).isdecimal() for key in value):
            value = [value[key] for key in sorted(value, key=int)]
        elif node.models:
            return _shape_model(node, value)
        elif node.item is not None:
            return {key: shape(node.item, entry) for key, entry in value.items()}
    if isinstance(value, list) and node.item is not None:
        return [shape(node.item, entry) for entry in value]
    return value


def _shape_model(node: FieldNode, value: dict[str, Any]) -> dict[str, Any]:
    shaped: dict[str, Any] = {}
    for key, entry in value.items():
        child = node.children.get(key)
        name = key
        if child is None or (key,) not in child.accepts:
            child = node.names.get(key.lower())
            if child is not None:
                name = next(str(path[0]) for path in child.accepts if str(path[0]).lower() == key.lower())
        if child is not None and any(len(path) == 1 and path[0] == name for path in child.accepts):
            entry = shape(child, entry)  # noqa: PLW2901 - the same entry, shaped
        shaped[name] = entry
    for child in node.children.values():  # aliases with separators: db:max.conn arrives as {"max": {"conn": ...}}
        for path in child.accepts:
            levels = normalise(str(path[0])).split("__")
            if len(levels) > 1 and path[0] not in shaped:
                found = dig(shaped, levels)
                if found is not _ABSENT:
                    shaped[str(path[0])] = shape(child, found)
    return shaped


def dig(data: Any, path: Sequence[Key]) -> Any:
    """The value at ``path``, or a sentinel for which :func:`present` is false."""
    for key in path:
        if isinstance(data, Mapping):
            data = data.get(key, _ABSENT)
        elif isinstance(key, int) and isinstance(data, (list, tuple)):
            data = data[key] if -len(data) <= key < len(data) else _ABSENT
        else:
            return _ABSENT
    return data


def present(value: Any) -> bool:
    return value is not _ABSENT


def lookup(node: FieldNode, data: Any) -> Any:
    """The value that ``data`` (what the parent's field holds) has for this field, in pydantic's order of spellings."""
    for path in node.accepts:
        value = dig(data, path)
        if value is not _ABSENT:
            return value
    return _ABSENT


def lookup_path(root: FieldNode, path: Sequence[Key], data: Any) -> Any:
    """The value at a path of field names below ``root``."""
    node: FieldNode | None = root
    for key in path:
        child = node.children.get(str(key)) if node is not None else None
        if child is not None:
            data = lookup(child, data)
            node = child
        else:
            data = dig(data, (key,))
            if not present(data) and str(key).isdecimal():
                data = dig(data, (int(key),))
            node = node.item if node is not None else None
        if data is _ABSENT:
            return _ABSENT
    return data


def yield_to(
    parent: FieldNode, ours: dict[str, Any], stronger: Mapping[str, Any], ignored: list[str]
) -> dict[str, Any]:
    """``ours`` without what the stronger sources already say, under their spelling where both go on. Drops ``Local`` fields."""
    result = dict(ours)
    for node in parent.children.values():
        mine = next((path for path in node.accepts if present(dig(result, path))), None)
        if mine is None:
            continue
        if node.local:
            _remove(result, mine)
            ignored.append(node.dotted)
            continue
        theirs = next((path for path in node.accepts if present(dig(stronger, path))), None)
        value = dig(result, mine)
        if theirs is None:
            if isinstance(value, dict) and node.models:
                _put(result, mine, yield_to(node, value, {}, ignored))
            continue
        winning = dig(stronger, theirs)
        if isinstance(value, dict) and isinstance(winning, Mapping) and not node.replaces:
            if node.models:
                value = yield_to(node, value, winning, ignored)
            _remove(result, mine)
            if len(theirs) == 1:
                result[str(theirs[0])] = value
        elif len(mine) > 1 and mine != theirs:
            if any(
                path[0] == mine[0] for other in parent.children.values() if other is not node for path in other.accepts
            ):
                # A place in a container that other fields read too cannot be taken out, so it says what the winner says.
                _put(result, mine, winning)
            else:
                result.pop(str(mine[0]))
        else:
            _remove(result, mine)
    return result


def _remove(data: dict[str, Any], path: tuple[Key, ...]) -> None:
    if len(path) == 1:
        data.pop(str(path[0]), None)
        return
    container = dig(data, path[:-1])
    if isinstance(container, dict):
        copy = {key: value for key, value in container.items() if key != path[-1]}
        _put(data, path[:-1], copy)


def _put(data: dict[str, Any], path: tuple[Key, ...], value: Any) -> None:
    """Replace the value at an existing path, copying the containers on the way: they may belong to somebody else."""
    if len(path) == 1:
        data[str(path[0])] = value
        return
    container = dig(data, path[:-1])
    changed: Any = dict(container) if isinstance(container, Mapping) else list(container)
    changed[path[-1]] = value
    _put(data, path[:-1], changed)


def deep_merge(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """``weaker`` with ``stronger`` on top, dicts merged key by key: how the framework adds a source."""
    merged = dict(weaker)
    for key, value in stronger.items():
        mine = merged.get(key)
        merged[key] = deep_merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged
