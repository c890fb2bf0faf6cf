"""Validation errors in the user's terms: the field, where its value came from, what is allowed. Never a value.

A refused value is shown to nobody, whatever its field: text that does not fit a number may well be a password in the wrong place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretBytes, SecretStr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings
from pydantic_settings import SettingsError as PydanticSettingsError

from stardust_auto.config.remote.keys import DELIMITER, normalise
from stardust_auto.config.typed.merge import lookup_path, present
from stardust_auto.config.typed.schema import FieldNode, Key, tree_of
from stardust_auto.errors import InvalidSettingsError, Problem

if TYPE_CHECKING:
    from stardust_auto.config.typed.context import Build

_PARSING = re.compile(r'error (?:parsing|getting) value for field "(?P<field>[^"]*)" from source "(?P<source>[^"]*)"')
_OWN_WORDS = ("value_error", "assertion_error")
_SOURCES = {
    "CliSettingsSource": "the command line",
    "InitSettingsSource": "an argument",
    "EnvSettingsSource": "the environment",
    "DotEnvSettingsSource": "the .env file",
    "SecretsSettingsSource": "a secret file",
    "NestedSecretsSettingsSource": "a secret file",
    "DefaultSettingsSource": "the default",
}
_HINTS = {
    "time_delta_parsing": 'write seconds as "PT30S" or "00:00:30"',
    "list_type": "should be a JSON array, or numbered keys; for a, b, c use CsvList",
    "dict_type": "should be a JSON object",
    "model_type": "should be a JSON object",
    "tuple_type": "should be a JSON array, or numbered keys",
    "set_type": "should be a JSON array, or numbered keys",
}


def remote_key(node: FieldNode, config: Mapping[str, Any]) -> str:
    return str(config.get("stardust_key_prefix") or "") + node.remote_key


def explain_failure(settings_cls: type[BaseSettings], error: Exception, build: Build) -> InvalidSettingsError:
    """The failure of a build as our error."""
    found: tuple[Problem, ...]
    if isinstance(error, ValidationError):
        found = tuple(problem for details in _details(error) for problem in _of_error(settings_cls, details, build))
    else:
        found = (_of_parsing(settings_cls, error, build),)
    return InvalidSettingsError(settings_cls.__name__, found)


def redacted_validation_error(
    settings_cls: type[BaseSettings], error: ValidationError, build: Build
) -> ValidationError:
    """The same error for ``Settings()``: our words, no input, no context object."""
    lines: list[InitErrorDetails] = []
    for details in _details(error):
        for problem in _of_error(settings_cls, details, build):
            path = tuple(problem.path.split(".")) if problem.path else ()
            # Without a context the template is taken as it is; that it is computed is what pyright minds.
            error_type = PydanticCustomError(problem.code, str(problem))  # pyright: ignore[reportArgumentType]  # see above
            lines.append(InitErrorDetails(type=error_type, loc=path, input=None))
    return ValidationError.from_exception_data(settings_cls.__name__, lines, hide_input=True)


def _details(error: ValidationError) -> Iterator[Mapping[str, Any]]:
    yield from error.errors(include_url=False, include_context=False)


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


def _of_error(settings_cls: type[BaseSettings], details: Mapping[str, Any], build: Build) -> Iterator[Problem]:
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
    message = _message(tree, node, details, build)
    source, key = find_source(tree, node, path, build)
    dotted = ".".join(map(str, path))
    if details["type"] == "extra_forbidden":
        dotted = ".".join(filter(None, (dotted, str(details["loc"][-1]))))
    yield Problem(dotted, details["type"], message, source, node.environment_name(config) if node.name else "", key)


def _needed(leaf: FieldNode, below: FieldNode) -> bool:
    """Whether the leaf is required and so is every model between it and ``below``."""
    between = [node for node in leaf.ancestors() if len(node.path) > len(below.path)]
    return leaf.required and all(node.required for node in between)


def _message(tree: FieldNode, node: FieldNode, details: Mapping[str, Any], build: Build) -> str:
    code, message = details["type"], details["msg"]
    if code in _OWN_WORDS:
        if node.secret:
            return "refused by its validator"
        message = message.partition(", ")[2] or message
    elif code in _HINTS:
        text = _HINTS[code]
        return text if code.endswith("_type") else f"{message}; {text}"
    return scrub(message, tree, build.states, details.get("input")) or "refused by its validator"


def scrub(text: str, tree: FieldNode, layers: Mapping[str, Mapping[str, Any]], refused: object = None) -> str:
    """``text`` of somebody else's validator without any secret value, and without the refused text itself."""
    hidden = set(secret_texts(tree, layers))
    if isinstance(refused, str) and len(refused) > 3:
        hidden.add(refused)
    for value in sorted(hidden, key=len, reverse=True):
        if value in text:
            if len(value) < 4:  # too short to cut out without doubt
                return ""
            text = text.replace(value, "***")
    return text


def secret_texts(tree: FieldNode, layers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Every text that some source gives for a field that must not be shown."""
    for node in tree.walk():
        if node.secret:
            for layer in layers.values():
                value = lookup_path(tree, node.path, layer)
                if present(value):
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


def find_source(tree: FieldNode, node: FieldNode, path: tuple[Key, ...], build: Build) -> tuple[str, str]:
    """Where the value at ``path`` came from, in words, and its remote key ("" for other sources)."""
    for name, layer in build.states.items():
        if path and present(lookup_path(tree, path, layer)):
            return describe_source(name, node, build, path)
    return "", ""


def describe_source(name: str, node: FieldNode, build: Build, path: Sequence[Key] = ()) -> tuple[str, str]:
    source = build.source
    if source is not None and name == source.__name__:
        key = origin_of(node, source.keys.origins, path)
        return f'Stardust {build.raw.label} key "{key}"', key
    config = source.settings_cls.model_config if source is not None else {}
    if name == "EnvSettingsSource":
        return f"the environment variable {environment_variable(node, config, os.environ, path)}", ""
    return _SOURCES.get(name, name), ""


def origin_of(node: FieldNode, origins: Mapping[str, str], path: Sequence[Key] = ()) -> str:
    """The key of the center that fills this field: its own, else the nearest one above it or the first below."""
    chain = [node, *(above for above in node.ancestors() if above.name)]
    for candidate in chain:
        for name in _spellings(candidate, path):
            if name in origins:
                return origins[name]
    for name in _spellings(node, path):
        for key, original in origins.items():
            if key.startswith(name + DELIMITER):
                return original
    return node.remote_key


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


def _of_parsing(settings_cls: type[BaseSettings], error: Exception, build: Build) -> Problem:
    """A source that could not decode a value: pydantic-settings stops at the first one, and keeps the text in its cause."""
    tree, config = tree_of(settings_cls), settings_cls.model_config
    match = _PARSING.search(str(error))
    node = tree.children.get(match["field"]) if match else None
    if match is None or node is None or not isinstance(error, PydanticSettingsError):
        return Problem("", "settings_error", f"could not be read ({type(error).__name__})")
    source, key = describe_source(match["source"], node, build)
    if match["source"] == "EnvSettingsSource":
        source = f"the environment variable {environment_variable(node, config, os.environ)}"
    message = _HINTS["list_type" if node.sequence and not node.models else "dict_type"]
    return Problem(node.dotted, "json_invalid", message, source, node.environment_name(config), key)
