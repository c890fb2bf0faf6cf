"""sqlite3: ``connect`` hands in a traced subclass as ``factory``; see :mod:`stardust_auto.instrumentation.sqlite3.classes`."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.caller import call_as
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.same_class import original_of
from stardust_auto.instrumentation.sqlite3.classes import TracedClasses
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches

#: Position of ``factory`` among the arguments of ``connect``.
_FACTORY = 5


class Connect:
    """``sqlite3.connect``. Not a function: like the C function it stands for, it does not become a method when a class holds it."""

    __wrapped__: Callable[..., Any]

    def __init__(self, plain: Callable[..., Any], patches: Patches, module: ModuleType) -> None:
        functools.update_wrapper(self, plain)
        self._patches = patches
        self._base: Any = module.Connection
        self._classes = TracedClasses(patches, module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (self._patches.tracer or self._patches.resume()) is not None and current_span.get() is not SUPPRESSED:
            try:
                args, kwargs = self._with_factory(args, kwargs)
            except Exception as fault:  # noqa: BLE001 - the integration's own code; counted, and the call goes on
                self._patches.fault(fault)
        if len(args) > 1 and sys.version_info >= (3, 12):  # deprecated, and said in the name of the calling line
            return call_as(sys._getframe(1), self.__wrapped__, args, kwargs)
        return self.__wrapped__(*args, **kwargs)

    def _with_factory(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        factory = args[_FACTORY] if len(args) > _FACTORY else kwargs.get("factory", self._base)
        if not (isinstance(factory, type) and issubclass(factory, self._base)):
            return args, kwargs  # a function makes what it likes
        database = args[0] if args else kwargs.get("database")
        traced = self._classes.connection(original_of(factory), self._classes.label(database))
        if len(args) > _FACTORY:
            return (*args[:_FACTORY], traced, *args[_FACTORY + 1 :]), kwargs
        return args, {**kwargs, "factory": traced}

    def __reduce__(self) -> str:
        return "connect"

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def _patch(module: ModuleType, patches: Patches) -> None:
    connects: dict[Any, Connect] = {}

    def make(plain: Any) -> Connect:
        return connects.setdefault(plain, Connect(plain, patches, module))

    # One object under all its names: ``sqlite3.connect is sqlite3.dbapi2.connect``, and pickle finds it in ``_sqlite3``.
    for name in ("sqlite3", "sqlite3.dbapi2", "_sqlite3"):
        holder = patches.module(name)
        if holder is not None and hasattr(holder, "connect"):
            patches.wrap(holder, "connect", make)


INTEGRATION = Integration(name="sqlite3", targets={"sqlite3": _patch}, supports={})
