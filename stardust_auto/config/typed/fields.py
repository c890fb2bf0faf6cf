"""The fields of a settings class as a tree: the names that each accepts, its marks, its kind, its secrecy. Built once per class.

Over 400 lines, because one node answers for one field: names, kind and place in the tree need each other.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import difflib
import enum
import pathlib
import types
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, ByteSize, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode
from typing_extensions import is_typeddict

from stardust_auto.config.remote.keys import DELIMITER, normalise
from stardust_auto.config.typed.markers import Local, Marker, Masked, Replace, Static
from stardust_auto.privacy import is_secret_name

Key = str | int
_NUMBERS = (bool, int, float, decimal.Decimal, enum.Enum, datetime.date, datetime.time, datetime.timedelta, ByteSize)
_SECRETS = (SecretStr, SecretBytes, Secret)
_TEXTS = (str, bytes, pathlib.PurePath, uuid.UUID, *_SECRETS)
#: Where a settings class keeps its tree: a table outside would keep every class alive.
_TREE = "__stardust_fields__"


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
        elif getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):  # of a TypedDict
            [annotation] = get_args(annotation)
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
    """The fields of a model, a dataclass (generic ones too) or a ``TypedDict``; ``None`` for anything else."""
    if _is(owner, BaseModel):
        fields: Mapping[str, FieldInfo] = owner.model_fields
        return fields
    bare = get_origin(owner) or owner
    if not isinstance(bare, type):
        return None
    if dataclasses.is_dataclass(bare):
        found = getattr(bare, "__pydantic_fields__", None) or _fields_of_dataclass(bare)
    elif is_typeddict(bare):
        found = _fields_of_typed_dict(bare)
    else:
        return None
    arguments = dict(zip(getattr(bare, "__parameters__", ()), get_args(owner), strict=False))
    return {name: _specialised(info, arguments) for name, info in found.items()} if arguments else found


def _hints(owner: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that only its own module can resolve: pydantic finds it, the tree does without
        return {}


def _fields_of_dataclass(owner: type) -> Mapping[str, FieldInfo]:
    hints, found = _hints(owner), dict[str, FieldInfo]()
    for field in dataclasses.fields(owner):
        if field.init and field.name in hints:
            info = FieldInfo.from_annotation(hints[field.name])
            if field.default is not dataclasses.MISSING:
                info.default = field.default
            elif field.default_factory is not dataclasses.MISSING:
                info.default_factory = field.default_factory
            found[field.name] = info
    return found


def _fields_of_typed_dict(owner: type) -> Mapping[str, FieldInfo]:
    required = getattr(owner, "__required_keys__", ())
    return {
        name: FieldInfo(annotation=hint) if name in required else FieldInfo(annotation=hint, default=None)
        for name, hint in _hints(owner).items()
    }


def _specialised(info: FieldInfo, arguments: Mapping[Any, Any]) -> FieldInfo:
    """The field of a generic class with its type variables replaced."""
    annotation: Any = info.annotation
    if isinstance(annotation, TypeVar):
        annotation = arguments.get(annotation, annotation)
    elif parameters := getattr(annotation, "__parameters__", ()):
        annotation = annotation[tuple(arguments.get(one, one) for one in parameters)]
    if annotation is info.annotation:
        return info
    changed = copy.copy(info)
    changed.annotation = annotation
    return changed


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
    """One field, or what a list or dict holds (then ``name`` is ``*``).

    ``path`` is made of field names. ``accepts`` are the input paths that pydantic takes for the field, in its order.
    """

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

    # -- names ------------------------------------------------------------------------------------------------------

    @property
    def dotted(self) -> str:
        """The path as people write it."""
        return ".".join(self.path)

    @property
    def key(self) -> str:
        """The name that leads to this field in a remote map: its first alias, else its name."""
        return str(self.accepts[0][0])

    @property
    def remote_key(self) -> str:
        """Levels joined with the platform's ``:``, without the prefix of the class."""
        above = self.parent.remote_key if self.parent is not None and self.parent.name else ""
        return f"{above}:{self.key}" if above else self.key

    @cached_property
    def heads(self) -> dict[str, list[tuple[FieldNode, int]]]:
        """The children that read something at each input key, with the index of the path in ``accepts``."""
        found: dict[str, list[tuple[FieldNode, int]]] = {}
        for child in self.children.values():
            for rank, path in enumerate(child.accepts):
                found.setdefault(str(path[0]), []).append((child, rank))
        return found

    @cached_property
    def names(self) -> dict[str, FieldNode]:
        """Children by every lower-cased name they accept."""
        found: dict[str, FieldNode] = {}
        for child in self.children.values():
            for path in child.accepts:
                found.setdefault(str(path[0]).lower(), child)
        return found

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

    # -- marks and kinds --------------------------------------------------------------------------------------------

    @property
    def static(self) -> bool:
        """Whether a change waits for a restart."""
        return Static in self.markers

    @property
    def local(self) -> bool:
        """Whether the center may not set the field."""
        return Local in self.markers

    @property
    def replaces(self) -> bool:
        """Whether a stronger source replaces the whole dict."""
        return Replace in self.markers

    @property
    def required(self) -> bool:
        """Whether the field has no default."""
        return self.info is not None and self.info.is_required()

    @property
    def makes_its_default(self) -> bool:
        """Whether a factory without arguments makes the default: an id, a time, something that no reload may change."""
        info = self.info
        return info is not None and info.default_factory is not None and not info.default_factory_takes_validated_data

    @cached_property
    def plain(self) -> bool:
        """Whether the value is a number, switch, enumeration or time: no text, hence nothing that could be a secret by accident."""
        return bool(self.members) and all(
            _is(member, _NUMBERS) or get_origin(member) is Literal for member, _ in self.members
        )

    @cached_property
    def holds_nothing(self) -> bool:
        """Whether the value is one number or text, so that no key can lie below it."""
        kinds = (*_NUMBERS, *_TEXTS)
        return bool(self.members) and all(
            _is(member, kinds) or _is(get_origin(member), _SECRETS) or get_origin(member) is Literal
            for member, _ in self.members
        )

    @cached_property
    def secret(self) -> bool:
        """Whether it is never shown: ``SecretStr`` and kin, ``Masked``, text whose name says so, and everything below such a field."""
        if Masked in self.markers or (self.parent is not None and self.parent.secret):
            return True
        if any(_is(member, _SECRETS) or _is(get_origin(member), _SECRETS) for member, _ in self.members):
            return True
        return not self.plain and not self.models and (is_secret_name(self.name) or is_secret_name(self.key))

    @cached_property
    def sequence(self) -> bool:
        """Whether the value is a list, tuple or set."""
        return any(
            _is(get_origin(member) or member, (Sequence, AbstractSet)) and not _is(member, (str, bytes, bytearray))
            for member, _ in self.members
        )

    @cached_property
    def mapping(self) -> bool:
        """Whether the value is a dict with free keys."""
        return any(
            _is(get_origin(member) or member, Mapping) and not is_typeddict(member) for member, _ in self.members
        )

    @cached_property
    def deep(self) -> bool:
        """Whether models lie in the value, so that names in it have spellings."""
        return bool(self.models) or (self.item is not None and self.item.deep)

    @property
    def takes_extras(self) -> bool:
        """Whether a nested model keeps keys that are no fields. The settings class itself is only asked for its fields."""
        return bool(self.name) and any(
            (getattr(model, "model_config", None) or {}).get("extra") == "allow" for model in self.models
        )

    # -- the tree ---------------------------------------------------------------------------------------------------

    @cached_property
    def children(self) -> dict[str, FieldNode]:
        """The fields of the nested model (of all members of a union), by name."""
        found: dict[str, FieldNode] = {}
        for model in self.models:
            bare = get_origin(model) or model
            config = getattr(bare, "model_config", None) or getattr(bare, "__pydantic_config__", None) or {}
            for name, info in (model_fields(model) or {}).items():
                node = FieldNode(name, info.annotation, info, config, self)
                if name not in found:
                    found[name] = node
                elif found[name].accepts != node.accepts:  # members of a union disagree: take what both spell alike
                    both = tuple(path for path in found[name].accepts if path in node.accepts)
                    found[name].accepts = both or found[name].accepts
        return found

    @cached_property
    def computed(self) -> dict[str, FieldNode]:
        """The computed fields of the nested model, by name."""
        return {
            name: FieldNode(name, field.return_type, None, {}, self)
            for model in self.models
            if _is(model, BaseModel)
            for name, field in model.model_computed_fields.items()
        }

    @cached_property
    def item(self) -> FieldNode | None:
        """What a list, set or dict holds; ``None`` when the type is not declared or not the same for all places."""
        for member, _ in self.members:
            args = tuple(arg for arg in get_args(member) if arg is not Ellipsis)
            if args and not model_fields(member) and (self.mapping or (self.sequence and len(args) == 1)):
                return FieldNode("*", args[-1], None, {}, self)
        return None

    def ancestors(self) -> Iterator[FieldNode]:
        """The nodes above, nearest first, the root included."""
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
        """The node of a path of names, aliases, indices and dict keys, or ``None`` where the class has no such place."""
        node = self
        for key in path:
            name = str(key)
            child = node.children.get(name) or node.names.get(name.lower()) or node.computed.get(name)
            if child is None and (node.mapping or node.open or (node.sequence and name.isdecimal())):
                child = node.item or FieldNode("*", Any, None, {}, node)
            if child is None:
                return None
            node = child
        return node

    @cached_property
    def open(self) -> bool:
        """Whether anything at all may lie below: the type says nothing about it."""
        return bool(self.name) and not (self.holds_nothing or self.models or self.sequence or self.mapping)

    def canonical_path(self, path: Sequence[Key]) -> tuple[str, ...]:
        """``path`` with field names in the place of aliases. :meth:`find` must know it."""
        names = []
        for depth, key in enumerate(path, 1):
            node = self.find(path[:depth])
            names.append(str(key) if node is None or node.name == "*" else node.name)
        return tuple(names)

    def nearest(self, path: str) -> str:
        """``; did you mean 'x'?``, or nothing."""
        found = difflib.get_close_matches(path, [node.dotted for node in self.walk()], n=1)
        return f"; did you mean {found[0]!r}?" if found else ""

    def takes(self, levels: Sequence[str]) -> bool:
        """Whether a remote key with these normalised levels below this node can fill something."""
        if not levels:
            return True
        if self.open or self.takes_extras:
            return True
        if self.mapping:
            return self.item is None or self.item.takes(levels[1:])
        if self.sequence and levels[0].isdecimal() and (self.item is None or self.item.takes(levels[1:])):
            return True
        return any(
            list(levels[: len(head)]) == head and (whole or child.takes(levels[len(head) :]))
            for head, whole, child in self._by_level.get(levels[0], ())
        )

    @cached_property
    def _by_level(self) -> dict[str, list[tuple[list[str], bool, FieldNode]]]:
        """The children by the first level of each name: its levels, whether all below is theirs, the child."""
        found: dict[str, list[tuple[list[str], bool, FieldNode]]] = {}
        for child in self.children.values():
            for path in child.accepts:
                head = normalise(str(path[0])).split(DELIMITER)
                found.setdefault(head[0], []).append((head, len(path) > 1, child))
        return found


def tree_of(settings: type[BaseSettings]) -> FieldNode:
    """The root node of a settings class; its children are the fields."""
    tree: FieldNode | None = vars(settings).get(_TREE)
    if tree is None:
        tree = FieldNode("", settings, None, settings.model_config, None)
        setattr(settings, _TREE, tree)
    return tree


def remote_key(node: FieldNode, config: Mapping[str, Any]) -> str:
    """The key of the center that sets this field, with the prefix of the class."""
    return str(config.get("stardust_key_prefix") or "") + node.remote_key


def unknown_keys(tree: FieldNode, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The original keys (given as normalised name -> key) of which no field could take anything, at any level."""
    return tuple(
        key
        for name, key in variables.items()
        if not key.startswith(("$", "#", "_")) and name != "pluginserver" and not tree.takes(name.split(DELIMITER))
    )
