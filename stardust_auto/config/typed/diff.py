"""Which fields differ between two settings objects of one class, as paths: values stay where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from stardust_auto.config.typed.schema import model_fields


def same(old: Any, new: Any) -> bool:
    """Equality that takes NaN for what it is, and a failing ``__eq__`` for "different"."""
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
    """The deepest fields that differ; dict keys count as fields."""
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


def carry_factories(old: Any, new: Any) -> None:
    """Fields that no source sets and that a ``default_factory`` fills keep their value: a random id is not a change.

    ``new`` is not published yet, so writing past its frozenness is seen by nobody.
    """
    if type(old) is not type(new) or not isinstance(new, BaseModel):
        return
    for name, info in type(new).model_fields.items():
        if name in new.model_fields_set or name in old.model_fields_set:
            carry_factories(getattr(old, name), getattr(new, name))
        elif info.default_factory is not None:
            vars(new)[name] = vars(old)[name]
