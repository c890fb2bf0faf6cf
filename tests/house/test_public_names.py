"""What may be relied upon: ``docs/api.txt`` lists every public name, and nothing else is promised.

After a change that is meant: ``python tests/house/test_public_names.py > docs/api.txt``.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.txt"
#: Every module whose names are public. Each says in ``__all__`` which they are.
PUBLIC = (
    "stardust_auto",
    "stardust_auto.config",
    "stardust_auto.errors",
    "stardust_auto.instrumentation",
    "stardust_auto.instrumentation.kit",
    "stardust_auto.server",
    "stardust_auto.testing",
)


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "class"
    return "function" if callable(value) else "value"


def listing() -> str:
    """``module.name kind``, one a line; below a class its public attributes."""
    lines = []
    for module_name in PUBLIC:
        module = import_module(module_name)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            lines.append(f"{module_name}.{name}  {_kind(value)}")
            home = str(getattr(value, "__module__", ""))
            if inspect.isclass(value) and home.startswith("stardust_auto"):
                members = {
                    attribute
                    for parent in value.__mro__
                    if parent.__module__.startswith("stardust_auto")
                    for attribute in vars(parent)
                    if not attribute.startswith("_")
                }
                lines += [f"    {attribute}" for attribute in sorted(members)]
    return "\n".join(lines) + "\n"


def test_the_public_names_are_exactly_those_of_the_list() -> None:
    assert listing() == PAGE.read_text("utf-8")


if __name__ == "__main__":
    import sys

    sys.stdout.write(listing())
