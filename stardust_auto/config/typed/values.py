"""Values by path: the one place that walks nested input and nested settings.

Every source's values are turned into *canonical* input at its boundary: dicts whose keys are field names, whatever alias the source used.
Precedence, provenance, overrides and explanations then compare plain names. :func:`spell` turns the merged result back into the names
that pydantic accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.config.typed.fields import Key, model_fields

if TYPE_CHECKING:
    from stardust_auto.config.typed.fields import FieldNode

ABSENT: Final[Any] = object()
ANY = "*"


@dataclass(frozen=True, slots=True)
class Extra:
    """The key of an input that no field takes. A class of its own: it may look like the name of a field that only accepts an alias."""

    name: str


# -- between the spellings of a source and field names -----------------------------------------------------------------


def canonical(node: FieldNode, value: Any) -> Any:
    """``value``, input for the field ``node``, with field names in the place of aliases. Instances of models stay as they are."""
    if not node.deep:
        return value
    if isinstance(value, Mapping):
        if node.models:
            return canonical_fields(node, value)
        if node.item is not None and node.mapping:
            return {key: canonical(node.item, entry) for key, entry in value.items()}
    elif isinstance(value, (list, tuple)) and type(value) in (list, tuple) and node.item is not None:
        return type(value)(canonical(node.item, entry) for entry in value)
    return value


def canonical_fields(node: FieldNode, data: Mapping[Any, Any]) -> dict[Any, Any]:
    """The fields in ``data``, which is input for a model of ``node``. Of two spellings of a field pydantic's first one counts."""
    result: dict[Any, Any] = {}
    ranks: dict[str, int] = {}
    for key, value in data.items():
        takers = node.heads.get(key)
        if takers is None:
            result[key if isinstance(key, Extra) else Extra(str(key))] = value
            continue
        for child, rank in takers:
            found = get(value, child.accepts[rank][1:])
            if all(len(other.accepts[place]) > 1 for other, place in takers):
                result[Extra(str(key))] = value  # other places of the container may matter to a validator
            if found is not ABSENT and rank <= ranks.get(child.name, rank):
                ranks[child.name] = rank
                result[child.name] = canonical(child, found)
    return result


def spell(node: FieldNode, value: Any) -> Any:
    """Canonical input as pydantic takes it: the reverse of :func:`canonical`."""
    if not node.deep:
        return value
    if isinstance(value, dict):
        if node.models:
            return _spell_fields(node, value)
        if node.item is not None and node.mapping:
            return {key: spell(node.item, entry) for key, entry in value.items()}
    elif type(value) in (list, tuple) and node.item is not None:
        return type(value)(spell(node.item, entry) for entry in value)
    return value


def _spell_fields(node: FieldNode, data: Mapping[Any, Any]) -> dict[str, Any]:
    result: dict[Any, Any] = {}
    containers: dict[str, Any] = {}  # what fields with an ``AliasPath`` were read from
    inside: list[tuple[FieldNode, Any]] = []
    for key, value in data.items():
        child = node.children.get(key) if not isinstance(key, Extra) else None
        if child is None:
            name = key.name if isinstance(key, Extra) else key
            (containers if name in node.heads else result).setdefault(name, value)
        elif len(child.accepts[0]) == 1:
            result[child.accepts[0][0]] = spell(child, value)
        else:
            inside.append((child, spell(child, value)))
    # pydantic takes the first path that it finds. Two passes: one field may add a value that precedes another field's in a container.
    for child, value in (*inside, *inside):
        found = [path for path in child.accepts if get(result, path) is not ABSENT]
        plain = [path for path in child.accepts if len(path) == 1]
        known = [path for path in child.accepts if get(containers, path) is not ABSENT]
        for path in (*found, *known, *plain, *child.accepts):
            template = {path[0]: containers[str(path[0])]} if path[0] in containers else {}
            placed = _placed({**template, **result}, path, value)
            if placed is not ABSENT:
                result = placed
                break
    for name, container in containers.items():
        if not any(
            child.name in data for child, _ in node.heads[name]
        ):  # text that a validator of the class will take apart
            result.setdefault(name, container)
    return {key: _as_list(value) for key, value in result.items()} if inside else result


def _placed(container: Any, path: Sequence[Key], value: Any) -> Any:
    """A copy of ``container`` with ``value`` at ``path``; :data:`ABSENT` if it has no such place."""
    if not path:
        return value
    step, *rest = path
    if isinstance(container, Mapping):
        placed = _placed(container.get(step, {}), rest, value)
        return ABSENT if placed is ABSENT else {**container, step: placed}
    if isinstance(container, list) and isinstance(step, int) and -len(container) <= step < len(container):
        placed = _placed(container[step], rest, value)
        result = list(container)
        result[step] = placed
        return ABSENT if placed is ABSENT else result
    return ABSENT


def _as_list(places: Any) -> Any:
    """A list where whole numbers count from 0. A dict stays where places are missing: pydantic looks them up alike."""
    if type(places) is not dict or not places or not all(type(key) is int for key in places):
        return places
    inside = {key: _as_list(value) for key, value in places.items()}
    return [inside[index] for index in range(len(inside))] if sorted(inside) == list(range(len(inside))) else inside


# -- walking -----------------------------------------------------------------------------------------------------------


def get(value: Any, path: Sequence[Key]) -> Any:
    """What lies at ``path`` in input or in a settings object, or :data:`ABSENT`."""
    for key in path:
        if isinstance(value, Mapping):
            found = value.get(key, ABSENT)
            if found is ABSENT:  # a number, in the one type or the other
                found = next((entry for name, entry in value.items() if str(name) == str(key)), ABSENT)
            value = found
        elif isinstance(value, (list, tuple)) and str(key).removeprefix("-").isdecimal():
            value = value[int(key)] if -len(value) <= int(key) < len(value) else ABSENT
        elif isinstance(key, str) and _has_field(value, key):
            value = getattr(value, key, ABSENT)
        else:
            return ABSENT
        if value is ABSENT:
            return ABSENT
    return value


def _has_field(value: Any, name: str) -> bool:
    kind = type(value)
    return name in (model_fields(kind) or ()) or name in getattr(kind, "model_computed_fields", ())


def expand(value: Any) -> dict[Any, Any]:
    """A nested value as a dict of its fields: the input that would make it."""
    if isinstance(value, Mapping):
        return dict(value)
    return {name: getattr(value, name) for name in model_fields(type(value)) or () if hasattr(value, name)}


def put(node: FieldNode, data: Mapping[Any, Any], path: Sequence[str], value: Any, current: Any) -> dict[Any, Any]:
    """A copy of the canonical input ``data`` with ``value`` at ``path``. What is missing on the way there is taken from ``current``.

    Raises:
        KeyError: the place is inside of something that is not a model or a dict.
    """
    name, *rest = path
    result = dict(data)
    child = node.find((name,))
    if child is None:
        raise KeyError(name)
    if not rest:
        result[name] = canonical(child, value)
        return result
    inner = result.get(name, ABSENT)
    here = get(current, (name,))
    if isinstance(inner, list) and rest[0].isdecimal() and int(rest[0]) < len(inner):
        index = int(rest[0])
        places = {str(number): entry for number, entry in enumerate(inner)}
        below = put(child, places, rest, value, here)
        result[name] = [*inner[:index], below[rest[0]], *inner[index + 1 :]]
        return result
    if not (child.models or child.mapping or child.open):
        raise KeyError(name)
    inside = inner if isinstance(inner, dict) else expand(here if inner is ABSENT else inner)
    result[name] = put(child, inside, rest, value, here)
    return result


def merge(node: FieldNode | None, weaker: Mapping[Any, Any], stronger: Mapping[Any, Any]) -> dict[Any, Any]:
    """``weaker`` with ``stronger`` on top, dicts merged key by key, unless the field is marked ``Replace``."""
    merged = dict(weaker)
    # The environment has no case: its key means the one key of a weaker source that differs in case only.
    free = {str(key).lower(): key for key in weaker} if node is not None and node.mapping else {}
    for key, value in stronger.items():
        if key not in merged and key in free:
            key = free[key]  # noqa: PLW2901 - the same entry under the name that it has
        child = (node.children.get(key) or node.item) if node is not None else None
        mine = merged.get(key)
        if isinstance(value, dict) and model_fields(type(mine)) is not None:
            mine = expand(mine)  # an instance as an argument: the stronger source sets some of its fields
        if isinstance(mine, dict) and isinstance(value, dict) and not (child is not None and child.replaces):
            value = merge(child, mine, value)  # noqa: PLW2901 - as above
        merged[key] = value
    return merged


# -- comparing -----------------------------------------------------------------------------------------------------------


def same(old: Any, new: Any) -> bool:
    """Equality that takes NaN as equal to NaN, and a failing ``__eq__`` for "different"."""
    if old is new:
        return True
    try:
        if bool(old == new):
            return type(old) is type(new) or not (isinstance(old, bool) or isinstance(new, bool))
        if isinstance(old, float) and isinstance(new, float):
            return old != old and new != new
    except Exception:  # noqa: BLE001 - somebody else's __eq__
        return False
    if type(old) is type(new) and isinstance(old, (list, tuple)) and len(old) == len(new):
        return all(map(same, old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys():
        return all(same(old[key], new[key]) for key in old)
    if type(old) is type(new) and model_fields(type(old)) is not None:
        return not any(True for _ in changed_paths(old, new))
    return False


def changed_paths(old: Any, new: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The deepest fields that differ between two settings objects; dict keys count as fields."""
    fields = model_fields(type(new))
    if type(old) is type(new) and fields is not None:
        for name in fields:
            yield from changed_paths(getattr(old, name, None), getattr(new, name, None), (*above, name))
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys(), key=str):
            if key not in old or key not in new:
                yield (*above, str(key))
            else:
                yield from changed_paths(old[key], new[key], (*above, str(key)))
    elif not same(old, new):
        yield above


def changed_names(old: Any, new: Any) -> tuple[str, ...]:
    """:func:`changed_paths`, dotted."""
    return tuple(".".join(path) for path in changed_paths(old, new)) if old is not None else ()


# -- selecting -----------------------------------------------------------------------------------------------------------


class PathPattern:
    """Select every value under a path such as ``db.*`` or ``shops.*.url``: a ``*`` is one level, at the end all that is below."""

    def __init__(self, path: str) -> None:
        self._parts = path.split(".")
        self.__qualname__ = path  # for the log

    def __call__(self, settings: object) -> dict[str, Any]:
        return {".".join(path): value for path, value in _leaves(settings, ()) if self._matches(path)}

    def _matches(self, path: tuple[str, ...]) -> bool:
        parts = self._parts
        if len(path) < len(parts) or (len(path) > len(parts) and parts[-1] != ANY):
            return False
        return all(part in (ANY, name) for part, name in zip(parts, path, strict=False))

    @staticmethod
    def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The entries that differ. A new entry is only on the right, a removed one only on the left."""
        kept = {path for path in before.keys() & after.keys() if same(before[path], after[path])}
        old, new = ({path: side[path] for path in side if path not in kept} for side in (before, after))
        return old, new


def path_selector(tree: FieldNode, path: str) -> Callable[[Any], Any]:
    """What ``on_change`` looks at for ``path``: one value, or with a ``*`` a dict of all that match.

    Raises:
        KeyError: the class has no such field; the message names the nearest one.
    """
    parts = path.split(".")
    fixed = parts[: parts.index(ANY)] if ANY in parts else parts
    if tree.find(fixed) is None:
        raise KeyError(f"no settings field {path!r}{tree.nearest(path)}")
    if ANY in parts:
        return PathPattern(path)
    names = tree.canonical_path(parts)

    def select(settings: Any) -> Any:
        value = get(settings, names)
        return None if value is ABSENT else value

    select.__qualname__ = path
    return select


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    fields = model_fields(type(value))
    if fields is not None:
        for name in fields:
            yield from _leaves(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _leaves(entry, (*path, str(name)))
    else:
        yield path, value
