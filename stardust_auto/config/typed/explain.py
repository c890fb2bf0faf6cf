"""Why a field has its value: the source that won, those that lost, and the name that each of them used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.config.typed.fields import model_fields, remote_key, tree_of
from stardust_auto.config.typed.layers import FACTORY
from stardust_auto.config.typed.values import ABSENT, Extra, get
from stardust_auto.privacy import MASK, is_secret_name, mask_text

if TYPE_CHECKING:
    from stardust_auto.config.typed.fields import FieldNode
    from stardust_auto.config.typed.layers import Layers

_LONGEST_CHARACTERS: Final = 200
_MOST_ENTRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one source gives: ``value`` is text for people, masked if need be."""

    source: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.source} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Explanation:
    """``path`` = ``value``, given by ``winner``; ``shadowed`` are the weaker sources that also had one, strongest first.

    ``env`` and ``key`` are the variable and the key of the center that set the field; empty where there is none.
    """

    path: str
    value: str
    winner: Contribution
    shadowed: tuple[Contribution, ...]
    env: str
    key: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The explanation for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.path} = {self.value}   from {self.winner}"]
        if self.shadowed:
            lines.append("  shadowed: " + " ; ".join(f"{entry} = {entry.value}" for entry in self.shadowed))
        if self.note:
            lines.append(f"  {self.note}")
        return "\n".join(lines)


# -- showing -------------------------------------------------------------------------------------------------------------


def show(node: FieldNode | None, value: Any) -> str:
    """A value as text of bounded length: ``***`` for a secret and for what lies below one, entries of dicts masked by their key."""
    text = _show(node, value)
    return text if len(text) <= _LONGEST_CHARACTERS else text[:_LONGEST_CHARACTERS] + "..."


def _show(node: FieldNode | None, value: Any) -> str:
    if value is None:
        return "None"
    if node is not None and node.secret:
        return MASK
    names = model_fields(type(value))
    if names is not None:
        value = {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, Mapping):
        parts = [_entry(node, key, entry) for key, entry in islice(value.items(), _MOST_ENTRIES)]
        return "{" + ", ".join(_and_more(parts, len(value))) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        item = node.item if node is not None else None
        parts = [_show(item, entry) for entry in islice(value, _MOST_ENTRIES)]
        return "[" + ", ".join(_and_more(parts, len(value))) + "]"
    if isinstance(value, str) and node is not None and node.models and any(one.secret for one in node.walk()):
        return MASK  # text in the place of a model that holds secrets: it may be that model as JSON
    text = value[: 10 * _LONGEST_CHARACTERS] if isinstance(value, (str, bytes)) else value
    return mask_text(repr(text))


def _entry(node: FieldNode | None, key: Any, value: Any) -> str:
    name = key.name if isinstance(key, Extra) else str(key)
    child = (node.children.get(name) or node.item) if node is not None and not isinstance(key, Extra) else None
    declared = child is not None and child.name != "*"
    return f"{name}={MASK if not declared and value is not None and is_secret_name(name) else _show(child, value)}"


def _and_more(parts: list[str], count: int) -> list[str]:
    return parts if count <= len(parts) else [*parts, f"... {count - len(parts)} more"]


def show_at(node: FieldNode, path: Sequence[str], value: Any) -> str:
    """:func:`show` for one place, which may be an entry of a dict whose key says that it is secret."""
    hidden = "*" in node.path and value is not None and any(is_secret_name(name) for name in path)
    return MASK if hidden else show(node, value)


# -- explaining ----------------------------------------------------------------------------------------------------------


def explain(layers: Layers, path: str, settings: object = None, pending: tuple[str, ...] = ()) -> Explanation:
    """Why the field at the dotted ``path`` has its value.

    Args:
        layers: what the sources give.
        path: names or aliases, indices, keys of dicts.
        settings: the settings object in use. Without one (the values are refused) the winning source's text stands for the value.
        pending: fields whose new value waits for a restart.

    Raises:
        KeyError: there is no such place; the message names the nearest field.
    """
    tree, config = tree_of(layers.settings_cls), layers.settings_cls.model_config
    parts = path.split(".")
    node = tree.find(parts) if path else None
    if node is None:
        raise KeyError(f"no settings field {path!r}{tree.nearest(path)}")
    names = tree.canonical_path(parts)
    given = list(layers.given(names))
    found = []
    for name, value in given:
        origin = layers.origin(name, node, names)
        found.append(Contribution(origin.label, origin.name, show_at(node, names, value)))
    found += _defaults(layers, node, names)
    value = get(settings, names) if settings is not None else given[0][1] if given else ABSENT
    if value is ABSENT and "*" in node.path:
        raise KeyError(f"no settings field {path!r}{tree.nearest(path)}")
    without_value = found[0].value if found else "None"
    shown = without_value if value is ABSENT else show_at(node, names, value)
    computed = node.info is None and node.name != "*"
    otherwise = (
        Contribution("computed", "", shown) if computed else Contribution("default", "of the nested model", shown)
    )
    winner = found[0] if found else otherwise
    waits = node.dotted in pending or any(above.dotted in pending for above in node.ancestors() if above.name)
    return Explanation(
        ".".join(names),
        shown,
        winner,
        tuple(found[1:]),
        "" if "*" in node.path or computed else node.environment_name(config),
        "" if node.local or computed else remote_key(node, config),
        "a new value of Stardust waits for a restart" if waits else "",
    )


def _defaults(layers: Layers, node: FieldNode, names: tuple[str, ...]) -> list[Contribution]:
    made = get(layers.data.get(FACTORY, {}), names)
    if made is not ABSENT:
        return [Contribution(layers.origin(FACTORY, node).label, "", show_at(node, names, made))]
    if node.info is None or node.required:
        return []
    if node.info.default_factory is not None:
        return [Contribution("default", "", "(made by its factory)")]
    return [Contribution("default", "", show(node, node.info.get_default(call_default_factory=False)))]
