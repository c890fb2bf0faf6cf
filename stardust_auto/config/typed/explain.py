"""Why a field has its value: the source that won, those that lost, and the name each of them used."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.config.typed.merge import lookup_path, present
from stardust_auto.config.typed.problems import environment_variable, origin_of, remote_key
from stardust_auto.config.typed.schema import FieldNode, tree_of
from stardust_auto.privacy import MASK, without_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stardust_auto.config.typed.builder import Built

_LONGEST = 200
_LABELS = {
    "CliSettingsSource": "command line",
    "InitSettingsSource": "argument",
    "DotEnvSettingsSource": ".env file",
    "SecretsSettingsSource": "secret file",
    "NestedSecretsSettingsSource": "secret file",
    "DefaultSettingsSource": "default",
}


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one source says: ``value`` is text for people, masked if need be."""

    source: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.source} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Explanation:
    """``path`` = ``value``, given by ``winner``; ``shadowed`` are the weaker sources that also had one, strongest first."""

    path: str
    value: str
    winner: Contribution
    shadowed: tuple[Contribution, ...]
    env: str
    key: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.path} = {self.value}   from {self.winner}"]
        if self.shadowed:
            lines.append("  shadowed: " + " ; ".join(f"{entry} = {entry.value}" for entry in self.shadowed))
        if self.note:
            lines.append(f"  {self.note}")
        return "\n".join(lines)


def show(node: FieldNode, value: Any) -> str:
    """A value as text: ``***`` for a secret or anything below one, credentials of URLs cut out, length bounded."""
    if node.secret:
        return MASK
    if node.children or node.item is not None:
        return _show_nested(node, value)
    text = without_credentials(repr(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _show_nested(node: FieldNode, value: Any) -> str:
    if node.children and not isinstance(value, str):
        if isinstance(value, dict):
            known = [
                (child, lookup_path(child.parent or child, (child.name,), value)) for child in node.children.values()
            ]
            inside = [f"{child.name}={show(child, entry)}" for child, entry in known if present(entry)]
        else:
            inside = [
                f"{name}={show(child, getattr(value, name))}"
                for name, child in node.children.items()
                if hasattr(value, name)
            ]
        return "{" + ", ".join(inside) + "}"
    if node.item is not None and isinstance(value, dict):
        return "{" + ", ".join(f"{key}={show(node.item, entry)}" for key, entry in value.items()) + "}"
    if node.item is not None and isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(show(node.item, entry) for entry in value) + "]"
    hides = any(entry.secret for entry in node.walk())
    return MASK if hides else without_credentials(repr(value))[:_LONGEST]


def explain(built: Built[Any], node: FieldNode, path: Sequence[str], settings: Any, waiting: bool) -> Explanation:
    """Walk the sources of ``built``, strongest first."""
    tree = tree_of(type(built.settings))
    config = type(built.settings).model_config
    found: list[Contribution] = []
    for name, layer in built.layers.items():
        if name == "DefaultSettingsSource":
            continue
        given = built.source.offered if name == built.source.__name__ else layer
        value = lookup_path(tree, path, given)
        if present(value):
            found.append(Contribution(*_where(name, node, built, path), show(node, value)))
    if node.info is not None and not node.required:
        default = node.info.get_default(call_default_factory=False)
        text = "(made by its factory)" if node.info.default_factory is not None else show(node, default)
        found.append(Contribution("default", "", text))
    value = settings
    for key in path:
        value = _step(value, key)
    winner = found[0] if found else Contribution("default", "of the nested model", show(node, value))
    env = "" if "*" in node.path else node.environment_name(config)
    note = "a new value of Stardust waits for a restart" if waiting else ""
    if not waiting and settings is not built.settings:
        real: Any = built.settings
        for key in path:
            real = _step(real, key)
        if real != value:
            winner, found = Contribution("override", "of this context or process", show(node, value)), [winner, *found]
    return Explanation(
        ".".join(path),
        show(node, value),
        winner,
        tuple(found[1:]),
        env,
        "" if node.local else remote_key(node, config),
        note,
    )


def _step(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, (list, tuple)) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return getattr(value, key, None)


def _where(name: str, node: FieldNode, built: Built[Any], path: Sequence[str]) -> tuple[str, str]:
    config = type(built.settings).model_config
    if name == built.source.__name__:
        return f"stardust {built.raw.label}", f'key "{origin_of(node, built.source.keys.origins, path)}"'
    if name == "EnvSettingsSource":
        return "env", environment_variable(node, config, os.environ, path)
    return _LABELS.get(name, name), ""
