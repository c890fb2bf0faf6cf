"""The remote map as one more source of pydantic-settings. It reads a snapshot that it is given.

Private names of pydantic-settings in use, each under a contract test: ``_load_env_vars``, ``_extract_field_info``, ``explode_env_vars``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.sources.types import EnvNoneType
from pydantic_settings.sources.utils import parse_env_vars

from stardust_auto.config.remote.keys import DELIMITER, RemoteKeys, normalise
from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.config.typed.fields import FieldNode, Key, tree_of
from stardust_auto.config.typed.values import ABSENT, Extra, get, spell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo


class StardustSource(EnvSettingsSource):
    """The values of the configuration center, for a class with its own ``settings_customise_sources``.

    Put it behind every source that deployment owns and before the defaults. ``live`` and ``StardustSettings`` give it the snapshot to read.
    Where nobody did, as in ``Settings()`` of a plain ``BaseSettings``, its first call takes that of the process's client, which may wait
    ``stardust_start_timeout`` seconds for the first answer.

    Attributes:
        snapshot: what is read; ``None`` before :meth:`use`.
        keys: the index of the snapshot.
        values: canonical input (field names), complete after the call.
        ignored: dotted paths of ``Local`` fields that the center has a value for.
        gaps: keys of list elements that come after a missing number.
    """

    def __init__(self, settings_cls: type[BaseSettings], snapshot: RawSnapshot | None = None) -> None:
        self.snapshot: RawSnapshot | None = None
        self.keys: RemoteKeys = EMPTY.view()
        self.values: dict[Any, Any] = {}
        self.ignored: list[str] = []
        self.gaps: list[str] = []
        super().__init__(
            settings_cls,
            case_sensitive=False,
            env_prefix="",
            env_nested_delimiter=DELIMITER,
            env_nested_max_split=0,
            env_ignore_empty=False,
        )
        if snapshot is not None:
            self.use(snapshot)

    def use(self, snapshot: RawSnapshot) -> None:
        """Read ``snapshot`` from now on."""
        self.snapshot = snapshot
        self.keys = snapshot.view(str(self.settings_cls.model_config.get("stardust_key_prefix") or ""))
        self.env_vars = self._load_env_vars()
        self.__name__ = f"stardust:{snapshot.app_id}:{snapshot.scope}"

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables: Mapping[str, str | None] = self.keys.variables
        if self.env_parse_none_str is not None:
            return parse_env_vars(variables, False, False, self.env_parse_none_str)
        return variables

    def explode_env_vars(self, field_name: str, field: FieldInfo, env_vars: Mapping[str, str | None]) -> dict[str, Any]:
        # Cost: only the keys that share the field's first level. With 10,000 keys of other programs in the map, looking at all of them
        # for every field took 0.26 s instead of 10 ms.
        chosen: dict[str, str | None] = {}
        for _, name, _ in self._extract_field_info(field, field_name):
            for levels, key in self._below(name):
                chosen.setdefault(name + DELIMITER + DELIMITER.join(levels), env_vars.get(key))
        return super().explode_env_vars(field_name, field, chosen) if chosen else {}

    def _below(self, name: str) -> Iterator[tuple[list[str], str]]:
        """The levels of each key below ``name``, in the case that the center has, and the key's normalised spelling."""
        start = normalise(name) + DELIMITER
        for key in self.keys.groups.get(start.partition(DELIMITER)[0], ()):
            if key.startswith(start):
                levels = key[len(start) :].split(DELIMITER)
                original = _separated(self.keys.origins[key]).split(DELIMITER)[-len(levels) :]
                exact = [level.lower() for level in original] == levels
                yield (original if exact else levels), key

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON, or the text as it is: pydantic then refuses it together with every other problem, instead of one at a time."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except (json.JSONDecodeError, RecursionError):
            return value

    def __call__(self) -> dict[str, Any]:
        tree = tree_of(self.settings_cls)
        if self.snapshot is None:
            from stardust_auto.config.remote.clients import CLIENTS

            self.use(CLIENTS.first_snapshot(self.settings_cls.model_config))
        self.ignored, self.gaps = [], []
        values = {}
        if self.env_vars:
            for node in tree.children.values():
                if self._is_given(node):
                    value = self._value_of(node)
                    if value is not ABSENT:
                        values[node.name] = value
        self.values = self._without_local(tree, values)
        spelled: dict[str, Any] = spell(tree, self.values)
        return spelled

    def _is_given(self, node: FieldNode) -> bool:
        for path in node.accepts:
            name = normalise(str(path[0]))
            if name in self.env_vars or name.partition(DELIMITER)[0] in self.keys.groups:
                return True
        return False

    def _value_of(self, node: FieldNode) -> Any:
        """The value of a field of the class, decoded; whole texts first, else what lies in keys below its name."""
        assert node.info is not None  # noqa: S101 - a field of the class has one
        for path in node.accepts:
            head = str(path[0])
            text = self.env_vars.get(head.lower(), self.env_vars.get(normalise(head)))
            if len(path) > 1:
                found = get(self._container(head, text), path[1:])
                if found is not ABSENT:
                    return self._shape(node, found)
            elif text is not None:
                value = self.prepare_field_value(node.name, node.info, text, False)
                if isinstance(value, list) and node.sequence:
                    value = self._overlay(node, value)
                if value is not None:
                    return self._shape(node, value)
        value = self.prepare_field_value(node.name, node.info, None, False)
        return ABSENT if value is None else self._shape(node, value)

    def _container(self, head: str, text: str | None) -> Any:
        """What an ``AliasPath`` looks into: JSON, or numbered and named keys."""
        if text is not None:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return ABSENT
        nested: dict[str, Any] = {}
        for levels, key in self._below(head):
            inside = nested
            for level in levels[:-1]:
                inside = inside.setdefault(level, {})
                if not isinstance(inside, dict):
                    break
            else:
                inside.setdefault(levels[-1], self.env_vars.get(key))
        return nested or ABSENT

    def _overlay(self, node: FieldNode, value: list[Any]) -> list[Any]:
        """A JSON list with single elements on top: a key for one place wins over the whole, as with models."""
        assert node.info is not None  # noqa: S101 - a field of the class has one
        places = self.explode_env_vars(node.name, node.info, self.env_vars)
        if not places or not all(key.isdecimal() for key in places):
            return value
        result = list(value)
        for key in sorted(places, key=int):
            index, entry = int(key), places[key]
            if index < len(result):
                mine = result[index]
                result[index] = {**mine, **entry} if isinstance(mine, dict) and isinstance(entry, dict) else entry
            else:
                if index > len(result):
                    self.gaps.append(f"{node.remote_key}:{key}")
                result.append(entry)
        return result

    # -- shaping ----------------------------------------------------------------------------------------------------

    def _shape(self, node: FieldNode, value: Any) -> Any:
        """Canonical input: numbered keys as lists, JSON texts below the first level decoded, names matched in any case."""
        if isinstance(value, EnvNoneType):
            return None
        if isinstance(value, str):
            holds_more = node.models or node.sequence or node.mapping
            if not node.decodes or not holds_more or value.lstrip()[:1] not in ("{", "["):
                return value
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return value
        if isinstance(value, dict):
            if node.sequence and not node.models and value and all(str(key).isdecimal() for key in value):
                numbers = sorted(value, key=int)
                self.gaps += [f"{node.remote_key}:{key}" for place, key in enumerate(numbers) if int(key) > place][:1]
                value = [value[key] for key in numbers]
            elif node.models:
                return self._shape_fields(node, value)
            elif node.item is not None:
                return {key: self._shape(node.item, entry) for key, entry in value.items()}
        if isinstance(value, list) and node.item is not None:
            return [self._shape(node.item, entry) for entry in value]
        return value

    def _shape_fields(self, node: FieldNode, data: Mapping[str, Any]) -> dict[Any, Any]:
        lowered = {str(key).lower(): key for key in data}
        result: dict[Any, Any] = {}
        used: set[str] = set()
        for child in node.children.values():
            for path in child.accepts:
                head = str(path[0])
                key = head if head in data else lowered.get(head.lower())
                if key is not None:
                    found, taken = data[key], key
                else:  # an alias with separators: db:max.conn arrives as {"max": {"conn": ...}}
                    levels = normalise(head).split(DELIMITER)
                    taken = lowered.get(levels[0], "")
                    found = _dig(data, levels) if len(levels) > 1 else ABSENT
                if found is ABSENT:
                    continue
                used.add(taken)
                if len(path) > 1:
                    if isinstance(found, str) and found.lstrip()[:1] in ("{", "["):
                        found = self._container("", found)
                    found = get(found, path[1:])
                if found is not ABSENT and child.name not in result:
                    result[child.name] = self._shape(child, found)
        for key, value in data.items():
            if key not in used:
                result[Extra(key)] = value
        return result

    def _without_local(self, node: FieldNode, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """``values`` without the fields that the center may not set."""
        result = {}
        for name, value in values.items():
            child = node.children.get(name)
            if child is not None and child.local:
                self.ignored.append(child.dotted)
            else:
                nested = child is not None and child.models and isinstance(value, dict)
                result[name] = self._without_local(child, value) if nested and child is not None else value
        return result

    def __repr__(self) -> str:
        return f"StardustSource({self.snapshot.label if self.snapshot is not None else 'no snapshot yet'})"


def stardust_source(settings_cls: type[BaseSettings]) -> StardustSource:
    """The source for a class that overrides ``settings_customise_sources`` without ``super()``."""
    return StardustSource(settings_cls)


def _separated(key: str) -> str:
    return key.replace(":", DELIMITER).replace(".", DELIMITER)


def _dig(data: Any, levels: Sequence[Key]) -> Any:
    """:func:`get` in any case."""
    for level in levels:
        if not isinstance(data, dict):
            return ABSENT
        data = next((value for key, value in data.items() if str(key).lower() == level), ABSENT)
    return data
