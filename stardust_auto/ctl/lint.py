"""What ``config check`` says beyond "valid" and "invalid": things that will surprise somebody later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from stardust_auto.config.remote.keys import DELIMITER, normalise
from stardust_auto.config.typed.fields import FieldNode, tree_of, unknown_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.config.typed.layers import Layers

#: Top-level fields and remote keys are told apart by levels, so one underscore cannot be both letter and separator.
_SINGLE = "_"


def errors(settings: type[BaseSettings]) -> Iterator[str]:
    """What is wrong with the class itself, whatever the values."""
    config: Any = settings.model_config
    if config.get("env_nested_delimiter") == _SINGLE and not config.get("env_nested_max_split"):
        for node in tree_of(settings).leaves():
            if _SINGLE in node.name and node.parent is not None and node.parent.name:
                yield (
                    f"{node.dotted}: the environment variable {node.environment_name(config)} does not reach it, because "
                    "env_nested_delimiter is '_' and the name has one too; use '__'"
                )


def warnings(settings: type[BaseSettings], raw: RawSnapshot) -> Iterator[str]:
    """What is allowed and probably not meant."""
    tree = tree_of(settings)
    for node in tree.walk():
        yield from _of_field(node)
    yield from _twins(tree)
    view = raw.view(str(settings.model_config.get("stardust_key_prefix") or ""))
    for key in unknown_keys(tree, view.origins):
        yield f'key "{key}" of the center belongs to no field'
    for collision in view.collisions:
        yield f'keys "{collision.winner}" and "{collision.loser}" of the center mean the same field; "{collision.winner}" is used'


def ignored(layers: Layers) -> Iterator[str]:
    """Fields marked ``Local`` that the center has a value for."""
    for path in layers.ignored:
        yield f"{path}: is marked Local, so the value in the center is not used"


def _twins(tree: FieldNode) -> Iterator[str]:
    """Fields that one key of the center fills both, through an alias or because two spellings are one key there."""
    spellings: dict[FieldNode, set[str]] = {}
    owners: dict[str, FieldNode] = {}
    told: set[tuple[FieldNode, FieldNode]] = set()
    for node in tree.walk():
        above = spellings.get(node.parent, set()) if node.parent is not None and node.parent.name else {""}
        own = {normalise(DELIMITER.join(map(str, path))) for path in node.accepts}
        spellings[node] = {f"{head}{DELIMITER}{tail}" if head else tail for head in above for tail in own}
        if node.local:
            continue
        for key in sorted(spellings[node]):
            other = owners.setdefault(key, node)
            if other is not node and (other, node) not in told:
                told.add((other, node))
                shown = key.replace(DELIMITER, ":")
                yield f'{node.dotted}: the key "{shown}" of the center fills {other.dotted} too; give one of them another name'


def _of_field(node: FieldNode) -> Iterator[str]:
    for model in node.models:
        if isinstance(model, type) and issubclass(model, BaseSettings):
            yield f"{node.dotted}: {model.__name__} is a settings class itself and reads variables of its own; make it a BaseModel"
        elif isinstance(model, type) and issubclass(model, BaseModel) and not model.model_config.get("frozen"):
            yield f"{node.dotted}: {model.__name__} can be changed in place; make it frozen"
    for member, _ in node.members:
        origin = getattr(member, "__origin__", member)
        if origin in (list, dict, set) and not node.models:
            instead = {list: "tuple", dict: "Mapping", set: "frozenset"}[origin]
            yield f"{node.dotted}: a {origin.__name__} can be changed in place; {instead} cannot"
