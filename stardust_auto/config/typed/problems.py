"""Validation errors in the user's terms: the field, where its value came from, what is allowed. Never a value.

No message shows a refused value, whatever its field: text that does not fit a number may well be a password in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import SecretBytes, SecretStr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType
from pydantic_settings import BaseSettings
from pydantic_settings import SettingsError as PydanticSettingsError

from stardust_auto.config.typed.fields import FieldNode, Key, remote_key, tree_of
from stardust_auto.config.typed.values import ABSENT, get
from stardust_auto.errors import InvalidSettingsError, Problem
from stardust_auto.privacy import MASK, mask_text

if TYPE_CHECKING:
    from stardust_auto.config.typed.layers import Layers

_PARSING = re.compile(r'error (?:parsing|getting) value for field "(?P<field>[^"]*)" from source "(?P<source>[^"]*)"')
_SECRETS_DIR = re.compile(r"secrets_dir")
_REFUSED: Final = "refused by its validator"
#: Codes of pydantic whose text is its own, but for what its context quotes.
_OF_PYDANTIC: Final = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error", "custom_error"}
#: What of pydantic's context cannot hold any input.
_LIMITS: Final = (
    "ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "max_digits", "decimal_places", "whole_digits",
    "expected", "expected_tags", "pattern", "class_name", "expected_schemes",
)  # fmt: skip
_CENTER_LIST: Final = "should be a JSON array, or numbered keys"
_OTHER_LIST: Final = "should be a JSON array"
_HINTS: Final = {
    "time_delta_parsing": 'write seconds as "PT30S" or "00:00:30"',
    "list_type": "{list}; for a, b, c use CsvList",
    "tuple_type": "{list}",
    "set_type": "{list}",
    "frozen_set_type": "{list}",
    "dict_type": "should be a JSON object",
    "model_type": "should be a JSON object",
    "dataclass_type": "should be a JSON object",
}


def explain_failure(settings_cls: type[BaseSettings], error: Exception, layers: Layers) -> InvalidSettingsError:
    """The failure of a build as our error."""
    found: tuple[Problem, ...]
    if isinstance(error, ValidationError):
        found = tuple(
            problem
            for details in error.errors(include_url=False)
            for problem in _of_error(settings_cls, details, layers)
        )
    else:
        found = (_of_parsing(settings_cls, error, layers),)
    return InvalidSettingsError(settings_cls.__name__, found)


def redacted_validation_error(
    settings_cls: type[BaseSettings], error: ValidationError, layers: Layers
) -> ValidationError:
    """The same error for ``Settings()``: our words, no input, and of the context only the limits."""
    lines: list[InitErrorDetails] = []
    for details in error.errors(include_url=False):
        context = {name: value for name, value in details.get("ctx", {}).items() if name in _LIMITS}
        for problem in _of_error(settings_cls, details, layers):
            path = tuple(problem.path.split(".")) if problem.path else ()
            text = str(problem).removeprefix(f"{problem.path or 'settings'}: ").removeprefix(f"{problem.path} ")
            # pyright wants a literal template; without braces of a known name pydantic takes the text as it is.
            error_type = PydanticCustomError(problem.code, text, context or None)  # pyright: ignore[reportArgumentType]  # see above
            lines.append(InitErrorDetails(type=error_type, loc=path, input=None))
    return ValidationError.from_exception_data(settings_cls.__name__, lines, hide_input=True)


def _locate(tree: FieldNode, loc: tuple[Key, ...]) -> tuple[FieldNode, tuple[Key, ...]]:
    """The field of a pydantic location, and its path in field names. Tags of unions are skipped."""
    node, path = tree, list[Key]()
    for key in loc:
        child = node.children.get(str(key)) or node.names.get(str(key).lower())
        if child is None and node.item is not None and (isinstance(key, int) or node.mapping):
            node = node.item
            path.append(key)
        elif child is not None:
            node = child
            path.append(child.name)
    return node, tuple(path)


def _of_error(settings_cls: type[BaseSettings], details: Mapping[str, Any], layers: Layers) -> Iterator[Problem]:
    tree = tree_of(settings_cls)
    config = settings_cls.model_config
    node, path = _locate(tree, details["loc"])
    if details["type"] == "missing":
        absent = [leaf for leaf in node.leaves() if _needed(leaf, node)] if node.models and node.name else []
        for leaf in absent or [node]:
            yield Problem(
                leaf.dotted if leaf is not node else ".".join(map(str, path)),
                "missing",
                "missing",
                env=leaf.environment_name(config),
                key="" if leaf.local else remote_key(leaf, config),
            )
        return
    name = next((name for name, _ in layers.given(path)), "") if path else ""
    if path and not name and details["type"] != "missing":
        name = next((name for name, layer in layers.data.items() if get(layer, path) is not ABSENT), "")
    origin = layers.origin(name, node, path) if name else None
    message = _message(node, details, layers, from_center=bool(origin and origin.key))
    dotted = ".".join(map(str, path))
    if details["type"] == "extra_forbidden":
        dotted = ".".join(filter(None, (dotted, str(details["loc"][-1]))))
    source, key = (origin.phrase, origin.key) if origin is not None else ("", "")
    yield Problem(dotted, details["type"], message, source, node.environment_name(config) if node.name else "", key)


def _needed(leaf: FieldNode, below: FieldNode) -> bool:
    """Whether the leaf is required and so is every model between it and ``below``."""
    between = [node for node in leaf.ancestors() if len(node.path) > len(below.path)]
    return leaf.required and all(node.required for node in between)


def _message(node: FieldNode, details: Mapping[str, Any], layers: Layers, *, from_center: bool) -> str:
    code, message = details["type"], details["msg"]
    if code in _HINTS:
        hint = _HINTS[code].format(list=_CENTER_LIST if from_center else _OTHER_LIST)
        return hint if code.endswith("_type") else f"{message}; {hint}"
    if code in _OF_PYDANTIC:
        return _without_quotes(message, details.get("ctx", {}))
    if node.secret:
        return _REFUSED
    if code in ("value_error", "assertion_error"):
        message = message.partition(", ")[2] or message
    return scrub(message, tree_of(layers.settings_cls), layers.data, details.get("input")) or _REFUSED


def _without_quotes(message: str, context: Mapping[str, Any]) -> str:
    """A text of pydantic's own without what its context quotes of the input."""
    tag = context.get("tag")
    if tag is not None:
        message = message.replace(f"'{tag}'", f"'{MASK}'")
    detail = context.get("error")
    if isinstance(detail, str) and detail in message:
        message = message.replace(detail, re.sub(r"`[^`]*`|'[^']*'", MASK, detail))
    return message


def scrub(text: str, tree: FieldNode, layers: Mapping[str, Mapping[Any, Any]], refused: object = None) -> str:
    """``text`` of somebody else's validator without any secret value and without the refused text itself. Empty if it cannot be."""
    hidden = {*secret_texts(tree, layers), *_texts(refused)}
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) < 4:  # too short to cut out without doubt
            if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text):
                return ""
        else:
            text = text.replace(value, MASK)
    return text


def secret_texts(tree: FieldNode, layers: Mapping[str, Mapping[Any, Any]]) -> Iterator[str]:
    """Every text that some source gives for a field that must not be shown."""
    for node in tree.walk():
        if node.secret:
            for layer in layers.values():
                value = get(layer, node.path)
                if value is not ABSENT:
                    yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (SecretStr, SecretBytes)):
        value = value.get_secret_value()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for entry in value:
            yield from _texts(entry)


def _of_parsing(settings_cls: type[BaseSettings], error: Exception, layers: Layers) -> Problem:
    """A source that could not be read. pydantic-settings stops at the first one. Only the cause of its error holds a value."""
    tree, config = tree_of(settings_cls), settings_cls.model_config
    match = _PARSING.search(str(error))
    node = tree.children.get(match["field"]) if match else None
    if match is None or node is None:
        text = str(error) if isinstance(error, PydanticSettingsError) else type(error).__name__
        shown = scrub(mask_text(text), tree, layers.data) or type(error).__name__
        return Problem("", "settings_error", shown)
    origin = layers.origin(match["source"], node)
    hint = _HINTS["list_type" if node.sequence and not node.models else "dict_type"]
    message = hint.format(list=_CENTER_LIST if origin.key else _OTHER_LIST)
    return Problem(node.dotted, "json_invalid", message, origin.phrase, node.environment_name(config), origin.key)
