"""Warnings keep naming the application's line where a Python wrapper stands in front of a C function."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, FrameType

_CALL = lambda function, args, kwargs: function(*args, **kwargs)  # noqa: E731 - one line, so that its first line is its only one
_CODE: CodeType = _CALL.__code__


def call_as(frame: FrameType, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call ``function`` from a frame that has the file, line, name and globals of ``frame``.

    C code warns on behalf of the Python frame that called it. With our wrapper in between, the warning would name our file, and the
    default filters, which show a DeprecationWarning only for ``__main__``, would hide what the plain program shows. Costs about 2 us, so it
    is for calls that may warn.
    """
    code = frame.f_code
    disguise = _CODE.replace(co_filename=code.co_filename, co_name=code.co_name, co_firstlineno=frame.f_lineno)
    return FunctionType(disguise, frame.f_globals)(function, args, kwargs)
