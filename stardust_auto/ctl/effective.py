"""What a program's settings come out as: value by value, with where each comes from, secrets masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.config.typed.builder import Reading
from stardust_auto.config.typed.explain import Explanation, explain, show_at
from stardust_auto.config.typed.fields import FieldNode, tree_of
from stardust_auto.config.typed.values import ABSENT, changed_paths, get
from stardust_auto.ctl.errors import UsageError
from stardust_auto.privacy import MASK

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def leaf_rows(reading: Reading[Any], paths: Sequence[str] | None = None) -> list[LeafRow]:
    """Rows for ``paths`` (dotted; models allowed), or for every value that the class has.

    Raises:
        UsageError: there is no such setting; the text names the nearest one.
    """
    wanted = paths if paths is not None else [node.dotted for node in tree_of(reading.layers.settings_cls).leaves()]
    return [LeafRow(_explained(reading, path)) for path in wanted]


def _explained(reading: Reading[Any], path: str) -> Explanation:
    try:
        return explain(reading.layers, path, reading.settings)
    except KeyError as error:
        raise UsageError(str(error.args[0]).replace("no settings field", "there is no setting", 1)) from None


def changed_leaves(old: Reading[Any], new: Reading[Any]) -> dict[str, tuple[str | None, str | None]]:
    """Settings whose value differs, old and new; a secret shows that it changed, not what it is.

    Where the class refuses one of the two, what the sources give is compared.
    """
    tree = tree_of(new.layers.settings_cls)
    found: dict[str, tuple[str | None, str | None]] = {}
    if old.settings is not None and new.settings is not None:
        for path in changed_paths(old.settings, new.settings):
            node = tree.find(path)
            found[".".join(path)] = (_shown(node, old.settings, path), _shown(node, new.settings, path))
        return found
    before: Reading[Any] = Reading(old.layers)
    after: Reading[Any] = Reading(new.layers)
    for node in tree.leaves():
        if get(old.layers.merged, node.path) != get(new.layers.merged, node.path):
            found[node.dotted] = (_explained(before, node.dotted).value, _explained(after, node.dotted).value)
    return found


def _shown(node: FieldNode | None, settings: object, path: Sequence[str]) -> str | None:
    value = get(settings, path)
    if value is ABSENT:
        return None
    return MASK if node is None else show_at(node, path, value)
