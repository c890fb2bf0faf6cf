"""Replacing single fields in the input of a build: for tests, and for fields that wait for a restart."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from stardust_auto.config.typed.merge import lookup, present

if TYPE_CHECKING:
    from stardust_auto.config.typed.builder import Built
    from stardust_auto.config.typed.schema import FieldNode


def apply_overrides(tree: FieldNode, built: Built[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The merged input of ``built`` with ``values`` (dotted field paths) on top.

    Raises:
        KeyError: there is no such field; the message names the nearest one.
    """
    merged = built.merged()
    for path, value in values.items():
        _set(tree, merged, path.split("."), value, built.settings, path)
    return merged


def nearest(tree: FieldNode, path: str) -> str:
    """``; did you mean ...`` or nothing."""
    found = difflib.get_close_matches(path, [node.dotted for node in tree.walk()], n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _set(node: FieldNode, data: dict[str, Any], path: list[str], value: Any, current: Any, whole: str) -> None:
    name = path[0]
    child = node.children.get(name)
    if child is None:
        if not node.mapping:
            root = [entry for entry in node.ancestors() if not entry.name]
            raise KeyError(f"no settings field {whole!r}{nearest(root[0] if root else node, whole)}")
        below, key = node.item, name
    else:
        below, key = child, _spelling(child, data)
    if len(path) == 1:
        data[key] = value
        return
    inner = data.get(key)
    here = current.get(name) if isinstance(current, Mapping) else getattr(current, name, None)
    if not isinstance(inner, dict):
        inner = dict(inner) if isinstance(inner, (BaseModel, Mapping)) else _as_input(child, here)
    copy = data[key] = dict(inner)
    if below is None:
        raise KeyError(f"no settings field {whole!r}")
    _set(below, copy, path[1:], value, here, whole)


def _as_input(node: FieldNode | None, value: Any) -> dict[str, Any]:
    """A nested model that no source mentions, as the dict that would make it."""
    if isinstance(value, Mapping):
        return dict(value)
    if node is None or value is None:
        return {}
    return {child.key: getattr(value, name) for name, child in node.children.items() if hasattr(value, name)}


def _spelling(node: FieldNode, data: Mapping[str, Any]) -> str:
    """The key under which ``data`` has this field, after taking the other spellings out."""
    found = [str(path[0]) for path in node.accepts if len(path) == 1 and path[0] in data]
    plain = [str(path[0]) for path in node.accepts if len(path) == 1]
    return found[0] if found else plain[0] if plain else node.name


def keep_values(nodes: Iterable[FieldNode], old: Built[Any], new: Built[Any]) -> dict[str, Any]:
    """The merged input of ``new``, in which ``nodes`` have what ``old`` had (or nothing, where it had nothing)."""
    merged = new.merged()
    before = old.merged()
    for node in nodes:
        target: dict[str, Any] = merged
        source: Mapping[str, Any] = before
        for step in reversed([entry for entry in node.ancestors() if entry.name]):
            key = _spelling(step, target)
            inner = target.get(key)
            copy: dict[str, Any] = dict(inner) if isinstance(inner, (Mapping, BaseModel)) else {}
            target[key] = copy
            target = copy
            found = lookup(step, source)
            source = found if present(found) and isinstance(found, Mapping) else {}
        for path in node.accepts:
            head = str(path[0])
            target.pop(head, None)
            if head in source:
                target[head] = source[head]
    return merged
