"""Values by dotted path, for what has no type: dicts whose keys are known only to the center."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stardust_auto.config.typed.diff import same
from stardust_auto.config.typed.overrides import nearest
from stardust_auto.config.typed.schema import model_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.config.typed.schema import FieldNode

ANY = "*"


class PathPattern:
    """Every value under a path such as ``db.*`` or ``shops.*.url``: a ``*`` is one level, at the end all that is below."""

    def __init__(self, path: str) -> None:
        self._parts = path.split(".")
        self.__qualname__ = path  # for the log

    def __call__(self, settings: object) -> dict[str, Any]:
        return {".".join(path): value for path, value in _below(settings, ()) if self._matches(path)}

    def _matches(self, path: tuple[str, ...]) -> bool:
        parts = self._parts
        if len(path) < len(parts) or (len(path) > len(parts) and parts[-1] != ANY):
            return False
        return all(part in (ANY, name) for part, name in zip(parts, path, strict=False))

    @staticmethod
    def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The entries that differ; what is new is missing on the left, what is gone on the right."""
        kept = {path for path in before.keys() & after.keys() if same(before[path], after[path])}
        old, new = ({path: side[path] for path in side if path not in kept} for side in (before, after))
        return old, new


def path_selector(tree: FieldNode, path: str) -> Callable[[Any], Any]:
    """What ``on_change`` looks at for ``path``: one value, or with a ``*`` a dict of all that match.

    Raises:
        KeyError: the class has no such field; the message names the nearest one.
    """
    node: FieldNode | None = tree
    for part in path.split("."):
        if node is None or part == ANY or node.mapping or node.sequence:
            break
        found = node.children.get(part)
        if found is None and (node is tree or node.children):
            raise KeyError(f"no settings field {path!r}{nearest(tree, path)}")
        node = found
    return PathPattern(path) if ANY in path.split(".") else _value_at(path)


def _value_at(path: str) -> Callable[[Any], Any]:
    def select(settings: Any) -> Any:
        value = settings
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        return value

    select.__qualname__ = path
    return select


def _below(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    fields = model_fields(type(value))
    if fields is not None:
        for name in fields:
            yield from _below(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _below(entry, (*path, str(name)))
    else:
        yield path, value
