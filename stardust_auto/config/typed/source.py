"""The remote map as one more source of pydantic-settings. No I/O: it reads the snapshot that it is given.

Private names of pydantic-settings in use, each under a contract test: ``_load_env_vars``, ``_extract_field_info``, ``explode_env_vars``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from stardust_auto.config.remote.keys import DELIMITER, RemoteKeys, normalise
from stardust_auto.config.typed import context
from stardust_auto.config.typed.merge import shape, yield_to
from stardust_auto.config.typed.schema import FieldNode, tree_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from stardust_auto.config.remote.snapshot import RawSnapshot


class StardustSource(EnvSettingsSource):
    """The values of the configuration center, for a class with its own ``settings_customise_sources``.

    Put it behind every source that deployment owns and before the defaults. Without a ``snapshot`` it takes the one of the
    build under way, else that of the process's client (waiting for its first answer, bounded by ``stardust_start_timeout``).
    """

    def __init__(self, settings_cls: type[BaseSettings], snapshot: RawSnapshot | None = None) -> None:
        build = context.building(settings_cls)
        if snapshot is None:
            if build is not None:
                snapshot = build.raw
            else:
                from stardust_auto.config.remote.clients import CLIENTS

                snapshot = CLIENTS.first_snapshot(settings_cls.model_config)
        self.snapshot = snapshot
        self.ignored: list[str] = []
        self.offered: dict[str, Any] = {}
        self.tree: FieldNode = tree_of(settings_cls)
        prefix = str(settings_cls.model_config.get("stardust_key_prefix") or "")
        self.keys: RemoteKeys = snapshot.view(prefix)
        self.__name__ = f"stardust:{snapshot.app_id}:{snapshot.scope}"
        super().__init__(
            settings_cls,
            case_sensitive=False,
            env_prefix="",
            env_nested_delimiter=DELIMITER,
            env_nested_max_split=0,
            env_ignore_empty=False,
        )
        if build is not None:
            build.source = self

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables: Mapping[str, str | None] = self.keys.variables
        if self.env_parse_none_str is not None:
            return parse_env_vars(variables, False, False, self.env_parse_none_str)
        return variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        candidates = self._extract_field_info(field, field_name)
        for key, name, is_complex in candidates:
            value = self.env_vars.get(name)
            if value is None:
                value = self.env_vars.get(normalise(name))
            if value is not None:
                return value, key, is_complex
        key, _, is_complex = candidates[-1]
        return None, key, is_complex

    def explode_env_vars(self, field_name: str, field: FieldInfo, env_vars: Mapping[str, str | None]) -> dict[str, Any]:
        # Only the keys that share the field's first level: with thousands of keys of other programs in the map, looking at
        # all of them for every field is what makes a build slow (config of 10 000 keys: 0.26 s instead of 10 ms).
        chosen: dict[str, str | None] = {}
        for _, name, _ in self._extract_field_info(field, field_name):
            wanted = normalise(name) + DELIMITER
            for key in self.keys.groups.get(wanted.partition(DELIMITER)[0], ()):
                if key.startswith(wanted):
                    chosen.setdefault(name + DELIMITER + key[len(wanted) :], env_vars.get(key))
        return super().explode_env_vars(field_name, field, chosen) if chosen else {}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON, or the text as it is: pydantic then refuses it together with every other problem, instead of one at a time."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except json.JSONDecodeError:
            return value

    def __call__(self) -> dict[str, Any]:
        data = super().__call__()
        for node in self.tree.children.values():
            for path in node.accepts:
                head = str(path[0])
                if len(path) == 1 and head in data:
                    data[head] = shape(node, data[head])
        self.offered = data
        return yield_to(self.tree, data, self.current_state, self.ignored)

    def __repr__(self) -> str:
        return f"StardustSource({self.snapshot.label})"


def stardust_source(settings_cls: type[BaseSettings]) -> StardustSource:
    """The source for a class that overrides ``settings_customise_sources`` without ``super()``."""
    return StardustSource(settings_cls)
