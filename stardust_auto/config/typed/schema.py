"""The fields of a settings class as a tree: names each answers to, marks, what may be shown. Worked out once per class."""

from __future__ import annotations

import datetime
import decimal
import enum
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, ByteSize, Secret, SecretBytes, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from stardust_auto.config.remote.keys import DELIMITER
from stardust_auto.config.typed.markers import Local, Marker, Masked, Replace, Static
from stardust_auto.privacy import is_secret_name

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_PLAIN = (bool, int, float, decimal.Decimal, enum.Enum, datetime.date, datetime.time, datetime.timedelta, ByteSize)
_SECRET = (SecretStr, SecretBytes, Secret)
Key = str | int


def _is(annotation: Any, bases: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, bases)


def _unwrap(annotation: Any) -> Iterator[tuple[Any, list[Any]]]:
    """The concrete members of an annotation, without ``Annotated``, ``None``, aliases and unions, each with its metadata."""
    metadata: list[Any] = []
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            metadata += more
        elif hasattr(annotation, "__value__"):  # a PEP 695 alias
            annotation = annotation.__value__
        else:
            break
    if origin in (Union, types.UnionType):
        for member in get_args(annotation):
            if member is not type(None):
                for inner, more in _unwrap(member):
                    yield inner, metadata + more
    else:
        yield annotation, metadata


def model_fields(owner: Any) -> Mapping[str, FieldInfo] | None:
    """The fields of a model or pydantic dataclass; ``None`` for anything else."""
    if _is(owner, BaseModel):
        fields: Mapping[str, FieldInfo] = owner.model_fields
        return fields
    return getattr(owner, "__pydantic_fields__", None) if is_dataclass(owner) else None


def _accepted(info: FieldInfo, name: str, config: Mapping[str, Any]) -> tuple[tuple[Key, ...], ...]:
    """The input paths that pydantic takes for this field, in its order."""
    by_name = config.get("validate_by_name", config.get("populate_by_name"))
    by_alias = config.get("validate_by_alias") is not False
    if by_name is None:
        by_name = not by_alias
    alias = info.validation_alias if info.validation_alias is not None else info.alias
    paths: list[tuple[Key, ...]] = []
    if alias is not None and by_alias:
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        paths += [tuple(choice.path) if isinstance(choice, AliasPath) else (choice,) for choice in choices]
    if not paths or by_name:
        paths.append((name,))
    return tuple(paths)


class FieldNode:
    """One field, or the elements of a list or dict field (then ``name`` is ``*``)."""

    def __init__(
        self, name: str, annotation: Any, info: FieldInfo | None, config: Mapping[str, Any], parent: FieldNode | None
    ) -> None:
        self.name = name
        self.info = info
        self.parent = parent
        self.path: tuple[str, ...] = (*(parent.path if parent else ()), name) if name else ()
        self.accepts = _accepted(info, name, config) if info is not None else ((name,),)
        self.members = list(_unwrap(annotation))
        metadata = [
            *(info.metadata if info is not None else []),
            *(entry for _, more in self.members for entry in more),
        ]
        self.markers = frozenset(entry for entry in metadata if isinstance(entry, Marker))
        self.decodes = NoDecode not in metadata
        self.models = [member for member, _ in self.members if model_fields(member) is not None]

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def key(self) -> str:
        """The name that leads to this field in a remote map: its first alias, else its name."""
        return str(self.accepts[0][0])

    @property
    def remote_key(self) -> str:
        """Levels joined with the platform's ``:``."""
        above = self.parent.remote_key if self.parent is not None and self.parent.name else ""
        return f"{above}:{self.key}" if above else self.key

    @property
    def static(self) -> bool:
        return Static in self.markers

    @property
    def local(self) -> bool:
        return Local in self.markers

    @property
    def replaces(self) -> bool:
        return Replace in self.markers

    @cached_property
    def plain(self) -> bool:
        """A number, switch, enumeration or time: no text, hence nothing that could be a secret by accident."""
        return bool(self.members) and all(
            _is(member, _PLAIN) or get_origin(member) is Literal for member, _ in self.members
        )

    @cached_property
    def secret(self) -> bool:
        """Never shown: ``SecretStr`` and kin, ``Masked``, text whose name says so, and everything below such a field."""
        if Masked in self.markers or (self.parent is not None and self.parent.secret):
            return True
        if any(_is(member, _SECRET) or _is(get_origin(member), _SECRET) for member, _ in self.members):
            return True
        return not self.plain and not self.models and is_secret_name(self.name)

    @cached_property
    def children(self) -> dict[str, FieldNode]:
        """The fields of the nested model (of all members of a union), by name."""
        found: dict[str, FieldNode] = {}
        for model in self.models:
            config = getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) or {}
            for name, info in (model_fields(model) or {}).items():
                found.setdefault(name, FieldNode(name, info.annotation, info, config, self))
        return found

    @cached_property
    def sequence(self) -> bool:
        return any(
            _is(get_origin(member) or member, (Sequence, AbstractSet)) and not _is(member, (str, bytes, bytearray))
            for member, _ in self.members
        )

    @cached_property
    def mapping(self) -> bool:
        return any(_is(get_origin(member) or member, Mapping) for member, _ in self.members)

    @cached_property
    def item(self) -> FieldNode | None:
        """The elements of a list, set or dict; ``None`` when their type is not declared or not the same for all."""
        for member, _ in self.members:
            args = tuple(arg for arg in get_args(member) if arg is not Ellipsis)
            if args and (self.mapping or (self.sequence and len(args) == 1)):
                return FieldNode("*", args[-1], None, {}, self)
        return None

    @cached_property
    def names(self) -> dict[str, FieldNode]:
        """Children by every lower-cased spelling they are accepted under."""
        found: dict[str, FieldNode] = {}
        for child in self.children.values():
            for path in child.accepts:
                found.setdefault(str(path[0]).lower(), child)
        return found

    def ancestors(self) -> Iterator[FieldNode]:
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    @property
    def recursive(self) -> bool:
        """Whether the model of this field contains itself: walks stop here."""
        return any(model in above.models for above in self.ancestors() for model in self.models)

    def walk(self) -> Iterator[FieldNode]:
        """All fields below, depth first, models before their fields."""
        for child in self.children.values():
            yield child
            if not child.recursive:
                yield from child.walk()

    def leaves(self) -> Iterator[FieldNode]:
        """The fields that hold values: those without a nested model."""
        return (node for node in self.walk() if not node.models or node.recursive)

    def find(self, path: Sequence[Key]) -> FieldNode | None:
        """The node of a path of names, aliases, indices and dict keys."""
        node: FieldNode | None = self
        for key in path:
            if node is None:
                return None
            child = node.children.get(str(key)) or node.names.get(str(key).lower())
            node = child or node.item
        return node

    @property
    def required(self) -> bool:
        return self.info is not None and self.info.is_required()

    def environment_name(self, config: Mapping[str, Any]) -> str:
        """The variable that sets this field, as people write it; of the nearest model (as JSON) without a delimiter."""
        chain = [self, *(node for node in self.ancestors() if node.name)]
        top = chain[-1]
        target = config.get("env_prefix_target") or "variable"
        aliased = top.info is not None and top.key != top.name
        prefix = config.get("env_prefix") or "" if target in ("all", "alias" if aliased else "variable") else ""
        delimiter = config.get("env_nested_delimiter")
        parts = [node.key for node in reversed(chain)] if delimiter else [top.key]
        name = prefix + (delimiter or "").join(parts)
        return name if config.get("case_sensitive") else name.upper()


_trees: weakref.WeakKeyDictionary[type[BaseSettings], FieldNode] = weakref.WeakKeyDictionary()


def tree_of(settings: type[BaseSettings]) -> FieldNode:
    """The root node of a settings class; its children are the fields."""
    tree = _trees.get(settings)
    if tree is None:
        tree = FieldNode("", settings, None, settings.model_config, None)
        _trees[settings] = tree
    return tree


def unknown_keys(tree: FieldNode, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The original keys (given as normalised name -> key) of which no field could take anything."""
    heads: set[str] = set()
    for name in tree.names:
        flat = name.replace(":", DELIMITER).replace(".", DELIMITER)
        heads.add(flat.partition(DELIMITER)[0])
    return tuple(
        key
        for name, key in variables.items()
        if name.partition(DELIMITER)[0] not in heads and not key.startswith(("$", "#", "_")) and name != "pluginserver"
    )
