"""What each source gave for one build: strongest first, by field names. Precedence and provenance are read from here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stardust_auto.config.remote.keys import DELIMITER, RemoteKeys, normalise
from stardust_auto.config.remote.snapshot import EMPTY
from stardust_auto.config.typed.fields import remote_key, tree_of
from stardust_auto.config.typed.values import ABSENT, get, merge, put, spell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic_settings import BaseSettings

    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.config.typed.fields import FieldNode, Key

#: Names of layers that no source of pydantic-settings has.
OVERRIDE: Final = "override"
KEPT: Final = "kept"
FACTORY: Final = "factory"
DEFAULTS: Final = "DefaultSettingsSource"


class Words(NamedTuple):
    """How people name a source: in a table, and in a sentence behind "from"."""

    label: str
    phrase: str


#: The one table of what sources are called.
_WORDS: Final = {
    OVERRIDE: Words("override of this context or process", "an override"),
    KEPT: Words("kept until a restart", "the value before, which is kept until a restart"),
    FACTORY: Words("default (made by its factory)", "a default made by its factory"),
    "CliSettingsSource": Words("command line", "the command line"),
    "InitSettingsSource": Words("argument", "an argument"),
    "EnvSettingsSource": Words("env", "the environment"),
    "DotEnvSettingsSource": Words(".env file", "the .env file"),
    "SecretsSettingsSource": Words("secret file", "a secret file"),
    "NestedSecretsSettingsSource": Words("secret file", "a secret file"),
    DEFAULTS: Words("default", "the default"),
}
_ENVIRONMENT: Final = "EnvSettingsSource"


class Origin(NamedTuple):
    """Where a value comes from.

    Attributes:
        label: the source, for a table: ``env``.
        name: the variable or key that it used: ``SHOP_POOL``, ``key "pool"``; empty for other sources.
        phrase: both in words, behind "from": ``the environment variable SHOP_POOL``.
        key: the key of the center; empty for other sources.
    """

    label: str
    name: str = ""
    phrase: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Layers:
    """One reading of every source.

    Attributes:
        settings_cls: the class that the sources were read for.
        data: canonical input by source, strongest first.
        merged: what all sources give together: the input of the validation.
        raw: the snapshot of the center that was read.
        keys: its index.
        stardust: the name of the center's layer in ``data``; empty if the class leaves it out.
        ignored: paths of ``Local`` fields that the center has a value for.
        gaps: keys of list elements after a missing number.
        arguments: the names under which the fields were given as arguments: validators that look at the input see them.
    """

    settings_cls: type[BaseSettings]
    data: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    merged: Mapping[Any, Any] = field(default_factory=dict)
    raw: RawSnapshot = EMPTY
    keys: RemoteKeys = field(default_factory=EMPTY.view)
    stardust: str = ""
    ignored: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings_cls: type[BaseSettings], data: Mapping[str, Mapping[Any, Any]], **facts: Any) -> Layers:
        """Merge ``data``; defaults of nested models only fill up what another source began."""
        tree = tree_of(settings_cls)
        merged: dict[Any, Any] = {}
        for name, layer in data.items():
            if name != DEFAULTS:
                merged = merge(tree, layer, merged)
        for name, default in data.get(DEFAULTS, {}).items():
            if isinstance(merged.get(name), dict) and isinstance(default, dict):
                merged[name] = merge(tree.children.get(name), default, merged[name])
        return cls(settings_cls, data, merged, **facts)

    def overridden(self, values: Mapping[str, Any], current: object) -> Layers:
        """These layers with ``values`` (by dotted path) above all others; what else a nested model needs is taken from ``current``.

        Raises:
            KeyError: there is no such field; the message names the nearest one.
        """
        return self._above(OVERRIDE, {tuple(path.split(".")): value for path, value in values.items()}, current)

    def keeping(self, nodes: Sequence[FieldNode], before: Layers, settings: object) -> Layers:
        """These layers, in which ``nodes`` have what ``before`` gave them, or the value of ``settings`` where it gave nothing."""
        kept = {}
        for node in nodes:
            value = get(before.merged, node.path)
            kept[node.path] = get(settings, node.path) if value is ABSENT else value
        return self._above(KEPT, kept, settings)

    def _above(self, name: str, values: Mapping[tuple[str, ...], Any], current: object) -> Layers:
        tree = tree_of(self.settings_cls)
        merged: dict[Any, Any] = dict(self.merged)
        layer: dict[Any, Any] = {}
        for path, value in values.items():
            dotted = ".".join(path)
            if tree.find(path) is None:
                raise KeyError(f"no settings field {dotted!r}{tree.nearest(dotted)}")
            names = tree.canonical_path(path)
            try:
                merged = put(tree, merged, names, value, current)
            except KeyError:
                raise KeyError(f"no settings field {dotted!r}") from None
            layer = put(tree, layer, names, value, None)
        return replace(self, data={name: layer, **self.data}, merged=merged)

    def with_factory_values(self, before: Layers, settings: object) -> Layers:
        """These layers, in which fields that no source sets keep what their factory made: a new random id is not a change."""
        merged, layer = dict(self.merged), dict[Any, Any]()
        tree = tree_of(self.settings_cls)
        for node in _factories(tree):
            if get(merged, node.path) is not ABSENT or any(before.given(node.path)):
                continue
            value = get(settings, node.path)
            if value is ABSENT or (len(node.path) > 1 and not isinstance(get(merged, node.path[:-1]), dict)):
                continue
            merged = put(tree, merged, node.path, value, settings)
            layer = put(tree, layer, node.path, value, None)
        return replace(self, data={**self.data, FACTORY: layer}, merged=merged) if layer else self

    def input(self) -> dict[str, Any]:
        """``merged`` under the names that pydantic accepts."""
        tree = tree_of(self.settings_cls)
        spelled: dict[str, Any] = spell(tree, dict(self.merged))
        for name in self.arguments:
            child = tree.children.get(name) or tree.names.get(name.lower())
            if child is not None and (name,) in child.accepts:
                first, *deeper = child.accepts[0]
                if not deeper and first in spelled:
                    spelled[name] = spelled.pop(str(first))
        return spelled

    # -- provenance -------------------------------------------------------------------------------------------------

    def given(self, path: Sequence[Key]) -> Iterator[tuple[str, Any]]:
        """Every layer that has a value at the canonical ``path``, with it, strongest first. Defaults are not among them."""
        for name, layer in self.data.items():
            if name in (DEFAULTS, FACTORY):
                continue
            value = get(layer, path)
            if value is not ABSENT:
                yield name, value
            elif any(not isinstance(get(layer, path[:depth]), dict) for depth in self._present(layer, path)):
                return  # a list or an object replaces what weaker sources say about its parts

    @staticmethod
    def _present(layer: Mapping[Any, Any], path: Sequence[Key]) -> Iterator[int]:
        return (depth for depth in range(1, len(path)) if get(layer, path[:depth]) is not ABSENT)

    def origin(self, name: str, node: FieldNode, path: Sequence[Key] = ()) -> Origin:
        """How people name the layer ``name`` as the source of the field ``node`` at ``path``."""
        if name and name == self.stardust:
            key = self.remote_name(node, path)
            return Origin(f"stardust {self.raw.label}", f'key "{key}"', f'Stardust {self.raw.label} key "{key}"', key)
        if name == _ENVIRONMENT:
            variable = environment_variable(node, self.settings_cls.model_config, os.environ, path)
            return Origin("env", variable, f"the environment variable {variable}")
        words = _WORDS.get(name, Words(name, name))
        return Origin(words.label, "", words.phrase)

    def remote_name(self, node: FieldNode, path: Sequence[Key] = ()) -> str:
        """The key of the center that fills this field: its own, else the nearest one above it or the first below."""
        origins = self.keys.origins
        chain = [node, *(above for above in node.ancestors() if above.name)]
        for candidate in chain:
            for name in _spellings(candidate, path):
                if name in origins:
                    return origins[name]
        for name in _spellings(node, path):
            for key, original in origins.items():
                if key.startswith(name + DELIMITER):
                    return original
        return remote_key(node, self.settings_cls.model_config)

    def __repr__(self) -> str:
        return f"Layers({self.settings_cls.__name__}, {', '.join(self.data)})"


def _factories(node: FieldNode) -> Iterator[FieldNode]:
    """The fields whose default a factory without arguments makes; what such a factory makes is taken as a whole."""
    for child in node.children.values():
        if child.makes_its_default:
            yield child
        if not child.recursive:
            yield from _factories(child)


def _spellings(node: FieldNode, path: Sequence[Key] = ()) -> list[str]:
    """Normalised keys by which a remote map can name this field; ``path`` has the keys of dicts and lists on the way."""
    depth = len(node.path) - 1
    if node.name == "*" and depth < len(path):
        heads = [normalise(str(path[depth]))]
    else:
        heads = [normalise(str(accepted[0])) for accepted in node.accepts]
    if node.parent is None or not node.parent.name:
        return heads
    return [f"{above}{DELIMITER}{head}" for above in _spellings(node.parent, path) for head in heads]


def environment_variable(
    node: FieldNode, config: Mapping[str, Any], environ: Mapping[str, str], path: Sequence[Key] = ()
) -> str:
    """The variable that is set for this field: its own spelling, a model's JSON above it, else the documented name."""
    names = {name.lower(): name for name in environ}
    prefix = str(config.get("env_prefix") or "").lower()
    delimiter = str(config.get("env_nested_delimiter") or DELIMITER).lower()
    chain = [node, *(above for above in node.ancestors() if above.name)]
    for candidate in chain:
        for spelling in _spellings(candidate, path):
            for name in (prefix + spelling.replace(DELIMITER, delimiter), spelling):
                if name in names:
                    return names[name]
    if node.children:
        for spelling in _spellings(node, path):
            start = prefix + spelling.replace(DELIMITER, delimiter) + delimiter
            if any(name.startswith(start) for name in names):
                return f"{start.upper()}*"
    return node.environment_name(config)
