"""Hosts that call Python from C: uWSGI takes the application out of its module unseen, mod_wsgi says which one it calls.

A bare callable is traced by what uWSGI finds in the module: at the end of a load the entry is a traced stand-in, and the original is back
before the next line of Python runs. So the program never sees anything but its own callable.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stardust_auto.activation.marks import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: What a load of the application is to Python: a file that is run, a module that is imported.
_LOADS = ("<module>", "_find_and_load")
#: Python calls that are waited for until a host has made itself known, and calls from C that are followed after that.
_WAITED_CALLS = 10_000
_FOLLOWED_CALLS = 100
#: Stand-ins handed to uWSGI. Kept alive here because uWSGI borrows them without taking a reference.
_stand_ins: list[object] = []


def await_uwsgi(install: Callable[[], None]) -> None:
    """Call ``install`` as soon as uWSGI, or mod_wsgi, loads an application, and trace that one.

    They make themselves known only after Python's start-up files have run. So a profile function waits for the next call from C. It is
    removed before the application is loaded and before requests are served.
    """
    if sys.getprofile() is None:
        sys.setprofile(_AwaitHost(install))


class _AwaitHost:
    """The profile function until a host is there. It gives up after ``_WAITED_CALLS`` calls."""

    def __init__(self, install: Callable[[], None]) -> None:
        self._install = install
        self._left = _WAITED_CALLS

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call":
            return
        if "uwsgi" not in sys.modules and not hasattr(sys.modules.get("mod_wsgi"), "subscribe_events"):
            self._left -= 1
            if not self._left:  # some other program that calls Python from C
                sys.setprofile(None)
        elif frame.f_code.co_name in _LOADS:
            sys.setprofile(None)
            self._install()
            if "uwsgi" in sys.modules:
                from stardust_auto.agent.uwsgi import follow_forks

                follow_forks()
                _Loads()(frame, event, None)


class _Loads:
    """The profile function between two calls from C, until the first request."""

    def __init__(self) -> None:
        self._left = _FOLLOWED_CALLS
        self._replaced: list[tuple[dict[str, Any], str, Any, Any]] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call":
            return
        sys.setprofile(None)
        for entries, name, ours, original in self._replaced:
            if entries.get(name) is ours:
                entries[name] = original
        self._replaced.clear()
        self._left -= 1
        served = frame.f_globals.get("__name__") == "stardust_auto.instrumentation.wsgi.application"
        if self._left and not served and frame.f_trace is None:
            # Without a trace function nothing calls this object. It is dropped when the call ends, and its __del__ tells us so.
            frame.f_trace = _AtEnd(self, frame)

    def ended(self, module: str) -> None:
        """A call from C has ended. If it was a load, uWSGI looks for its application in ``module`` now."""
        if sys.getprofile() is not None:  # without ours, nothing would put the original back
            return
        try:
            for replaced in _stand_in(module):
                self._replaced.append(replaced)
                _stand_ins.append(replaced[2])
        except Exception as error:  # noqa: BLE001 - uWSGI must find its application whatever is wrong with us
            say(f"the application is not traced, {type(error).__name__}: {error}")
        sys.setprofile(self)


class _AtEnd:
    """Tells the end of a frame by its own end. For a debugger it is a trace function that does nothing."""

    __slots__ = ("_loads", "_module")

    def __init__(self, loads: _Loads, frame: FrameType) -> None:
        self._loads = loads
        place: Any = {"<module>": frame.f_globals.get("__name__"), "_find_and_load": frame.f_locals.get("name")}
        self._module = str(place.get(frame.f_code.co_name) or "")

    def __call__(self, *_details: object) -> None:
        return None

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._loads.ended(self._module)


def _stand_in(module_name: str) -> Iterator[tuple[dict[str, Any], str, Any, Any]]:
    """Replace what uWSGI may take for an application of this module.

    Yields:
        The namespace, the name in it, the stand-in, and the original.
    """
    module, uwsgi = sys.modules.get(module_name), sys.modules["uwsgi"]
    if module is None:
        return
    from stardust_auto.instrumentation.registry import registry
    from stardust_auto.instrumentation.wsgi.application import traced_application

    patches = registry.patches("wsgi")
    if patches.tracer is None:
        return

    def traced(app: Any) -> Any:
        return traced_application(patches, app)

    entries = vars(module)
    for name in _names(uwsgi):
        original = entries.get(name.removesuffix("()"))
        if not callable(original):
            continue
        if name.endswith("()"):
            ours: Any = lambda make=original: traced(make())  # noqa: E731 - uWSGI calls it once
        else:
            ours = traced(original)
        if ours is not original:
            entries[name.removesuffix("()")] = ours
            yield entries, name.removesuffix("()"), ours, original
    for place in (entries, vars(uwsgi)):
        mounted = place.get("applications")
        if isinstance(mounted, dict):
            ours = {path: traced(app) for path, app in mounted.items()}
            place["applications"] = ours
            yield place, "applications", ours, mounted


def _names(uwsgi: Any) -> set[str]:
    """Names that an application can have, by uWSGI's options: of a repeated one it tells only one value, so the usual names too."""
    names = {"application", "app", _text(uwsgi.opt.get("callable", "application"))}
    for option in ("module", "wsgi", "mount"):
        values = uwsgi.opt.get(option, ())
        for value in values if isinstance(values, list) else [values]:
            name = _text(value).partition(":")[2]
            if name:
                names.add(name)
    return names


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
