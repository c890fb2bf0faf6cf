"""What a program's settings come out as: value by value, with where each comes from, secrets masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.config.typed.diff import changed_paths
from stardust_auto.config.typed.explain import Explanation, explain, show
from stardust_auto.config.typed.overrides import nearest
from stardust_auto.config.typed.schema import FieldNode, tree_of
from stardust_auto.ctl.errors import UsageError
from stardust_auto.privacy import MASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stardust_auto.config.typed.builder import Built


@dataclass(frozen=True, slots=True)
class LeafRow:
    """One setting and its explanation."""

    explanation: Explanation

    @property
    def path(self) -> str:
        """Dotted field names."""
        return self.explanation.path

    @property
    def value(self) -> str:
        """The value as text; masked if it is a secret."""
        return self.explanation.value

    @property
    def source(self) -> str:
        """The source that won, and the name it used."""
        return str(self.explanation.winner)

    @property
    def losers(self) -> str:
        """The weaker sources that had a value too, with it."""
        return "; ".join(f"{entry} = {entry.value}" for entry in self.explanation.shadowed)

    def as_json(self, *, sources: bool) -> dict[str, object]:
        """The row for programs."""
        row: dict[str, object] = {"path": self.path, "value": self.value}
        if sources:
            row["source"] = self.source
            row["shadowed"] = [{"source": str(entry), "value": entry.value} for entry in self.explanation.shadowed]
            row["variable"] = self.explanation.env
            row["key"] = self.explanation.key or None
        return row


def leaf_rows(built: Built[Any], paths: Sequence[str] | None = None) -> list[LeafRow]:
    """Rows for ``paths`` (dotted; models allowed), or for every value that the class has.

    Raises:
        UsageError: there is no such setting; the text names the nearest one.
    """
    tree = tree_of(type(built.settings))
    if paths is None:
        wanted = [(node, list(node.path)) for node in tree.leaves()]
    else:
        wanted = [(_find(tree, path), path.split(".")) for path in paths]
    return [LeafRow(explain(built, node, path, built.settings, waiting=False)) for node, path in wanted]


def changed_leaves(old: Built[Any], new: Built[Any]) -> dict[str, tuple[str | None, str | None]]:
    """Settings whose value differs, old and new; a secret shows that it changed, not what it is."""
    tree = tree_of(type(new.settings))
    found: dict[str, tuple[str | None, str | None]] = {}
    for path in changed_paths(old.settings, new.settings):
        node = tree.find(path)
        found[".".join(path)] = (_shown(node, old.settings, path), _shown(node, new.settings, path))
    return found


def static_changes(old: Built[Any], new: Built[Any]) -> list[str]:
    """Settings whose value differs and that need a restart."""
    tree = tree_of(type(new.settings))
    found = set()
    for path in changed_paths(old.settings, new.settings):
        node = tree.find(path)
        if node is not None:
            found |= {above.dotted for above in (node, *node.ancestors()) if above.static}
    return sorted(found)


def _find(tree: FieldNode, path: str) -> FieldNode:
    node = tree.find(path.split("."))
    if node is None or not path:
        raise UsageError(f"there is no setting {path!r}{nearest(tree, path)}")
    return node


def _shown(node: FieldNode | None, settings: object, path: Sequence[str]) -> str | None:
    value = settings
    for name in path:
        if isinstance(value, dict):
            if name not in value:
                return None
            value = value[name]
        else:
            value = getattr(value, name, None)
    return MASK if node is None else show(node, value)
