"""Every setting of a class with its names: for people (table, Markdown), for editors (JSON schema), for ``.env`` files."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticUndefined

from stardust_auto.config.typed.fields import FieldNode, remote_key, tree_of
from stardust_auto.privacy import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic_settings import BaseSettings


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One setting. ``key`` is empty for a field that is never taken from the center."""

    path: str
    key: str
    variable: str
    type: str
    default: str
    required: bool
    secret: bool
    meaning: str
    marks: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """The row for programs."""
        return {
            "path": self.path,
            "key": self.key or None,
            "variable": self.variable,
            "type": self.type,
            "default": None if self.required else self.default,
            "required": self.required,
            "secret": self.secret,
            "description": self.meaning,
            "marks": list(self.marks),
        }


def key_rows(settings: type[BaseSettings]) -> list[KeyRow]:
    """One row for each value that the class reads, in the order of its fields."""
    config = settings.model_config
    rows = []
    for node in tree_of(settings).leaves():
        marks = {marker.name for marker in node.markers}
        for above in node.ancestors():
            marks |= {marker.name for marker in above.markers}
        rows.append(
            KeyRow(
                path=node.dotted,
                key="" if "Local" in marks else remote_key(node, config),
                variable=node.environment_name(config),
                type=type_name(node),
                default=_default(node),
                required=_required(node),
                secret=node.secret,
                meaning=(node.info.description or "") if node.info is not None else "",
                marks=tuple(sorted(marks)),
            )
        )
    return rows


def type_name(node: FieldNode) -> str:
    """The declared type, short: ``int``, ``int | None``, ``list[str]``, with what its constraints allow."""
    annotation: Any = node.info.annotation if node.info is not None else None
    name = annotation.__name__ if type(annotation) is type else str(annotation).replace("typing.", "")
    limits = [text for entry in (node.info.metadata if node.info is not None else ()) if (text := _limit(entry))]
    return f"{name}, {', '.join(limits)}" if limits else name


def _limit(entry: object) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of"}
    words = {"min_length": "at least {} long", "max_length": "at most {} long", "pattern": "matching {}"}
    found = [f"{sign} {value}" for name, sign in signs.items() if (value := getattr(entry, name, None)) is not None]
    found += [text.format(value) for name, text in words.items() if (value := getattr(entry, name, None)) is not None]
    return ", ".join(found)


def _required(node: FieldNode) -> bool:
    return node.required and all(above.required for above in node.ancestors() if above.name)


def _default(node: FieldNode) -> str:
    """The default as the environment would spell it: that of the outermost field that has one."""
    chain = [*reversed([above for above in node.ancestors() if above.name]), node]
    for index, above in enumerate(chain):
        info = above.info
        if info is None or info.is_required():
            continue
        if info.default_factory is not None:
            return "(computed)"
        value: Any = info.default
        for below in chain[index + 1 :]:
            value = getattr(value, below.name, PydanticUndefined)
        if value is PydanticUndefined:
            return ""
        return MASK if node.secret and value else spelled(value)
    return ""


def spelled(value: object) -> str:
    """A value as it is written in the center or the environment."""
    if value is None:
        return "(none)"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return json.dumps(
            sorted(value) if isinstance(value, (set, frozenset)) else value, ensure_ascii=False, default=str
        )
    return str(value)


def as_markdown(settings: type[BaseSettings], rows: Sequence[KeyRow]) -> str:
    """A table for a README."""
    lines = [f"### {settings.__name__}", "", "| Key | Variable | Type | Default | Meaning |", "|---|---|---|---|---|"]
    for row in rows:
        key = f"`{row.key}`" if row.key else "not from the center"
        default = "**required**" if row.required else f"`{row.default}`" if row.default else ""
        notes = [row.meaning] if row.meaning else []
        notes += {"Static": ["needs a restart"]}.get(next((mark for mark in row.marks if mark == "Static"), ""), [])
        cells = (key, f"`{row.variable}`", f"`{row.type}`", default, "; ".join(notes))
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def as_env(settings: type[BaseSettings], rows: Sequence[KeyRow]) -> str:
    """A ``.env`` file in which every variable is a comment, ready to be changed."""
    lines = [f"# {settings.__name__}: remove the '#' before a line to beat the configuration center"]
    for row in rows:
        lines += [
            "",
            f"# {row.meaning or row.path} ({row.type}{', required' if row.required else ''})".replace("\n", " "),
        ]
        value = "" if row.required or row.secret or row.default in ("(none)", "(computed)") else row.default
        lines.append(f"#{row.variable}={shlex.quote(value) if value else ''}")
    return "\n".join(lines)


def as_json_schema(settings: type[BaseSettings], rows: Sequence[KeyRow]) -> str:
    """One flat schema: the keys of the center with what each of them allows."""
    nested = settings.model_json_schema()
    properties: dict[str, object] = {}
    for row in rows:
        if row.key:
            found = dict(_schema_at(nested, row.path.split(".")))
            found.pop("title", None)
            if row.secret:
                found.pop("default", None)
            properties[row.key] = found | {"x-variable": row.variable, **({"x-secret": True} if row.secret else {})}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": settings.__name__,
        "type": "object",
        "properties": properties,
        "required": [row.key for row in rows if row.key and row.required],
    }
    if nested.get("$defs"):
        schema["$defs"] = nested["$defs"]
    return json.dumps(schema, ensure_ascii=False, indent=2, default=str)


def _schema_at(schema: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The part of a schema at a path of field names; empty where a union or an alias hides it."""
    found = schema
    for name in path:
        found = _resolved(schema, found)
        found = found.get("properties", {}).get(name, {})
    return found


def _resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    for candidate in (part, *part.get("anyOf", ()), *part.get("allOf", ())):
        reference = candidate.get("$ref", "")
        if reference.startswith("#/$defs/"):
            target: dict[str, Any] = schema.get("$defs", {}).get(reference[len("#/$defs/") :], {})
            return target
    return part


KEY_FORMATS: Final[dict[str, Callable[[type[BaseSettings], Sequence[KeyRow]], str]]] = {
    "md": as_markdown,
    "jsonschema": as_json_schema,
    "env": as_env,
}
