"""uWSGI, which calls Python from C: it forks without Python's hooks, and takes the application out of its module unseen.

A bare callable is traced by what uWSGI finds in the module: at the end of a load the entry is a traced stand-in, and the
original is back before the next line of Python runs. So the program never sees anything but its own callable.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stardust_auto.activation.boot import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: Threads run without being asked for; 2.0.21 is known to need the option, 2.0.27 not to.
_WITH_THREADS = (2, 0, 27)
#: What a load of the application is to Python: a file that is run, a module that is imported.
_LOADS = ("<module>", "_find_and_load")
#: Python calls that are waited for until uWSGI has made itself known, and calls from C that are followed after that.
_PATIENCE = 10_000
_MOST = 100
#: What uWSGI was given in the place of something else: it counts no reference while it looks.
_given: list[object] = []
#: What uWSGI called after its forks before us; ``None`` until we have looked.
_hooks: list[Callable[[], object]] | None = None


# -- forks -----------------------------------------------------------------------------------------------------------


def follow_forks() -> None:
    """Forget the master's state in a worker of uWSGI, which forks without Python's hooks. Again and again does no harm."""
    global _hooks
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or getattr(uwsgi, "post_fork_hook", None) is _after_fork:
        return
    if _hooks is None:
        from wrapt import register_post_import_hook

        _hooks = []
        _check_threads(uwsgi)
        # It puts its own hook in the place of whatever is there.
        register_post_import_hook(lambda _module: follow_forks(), "uwsgidecorators")
    previous = getattr(uwsgi, "post_fork_hook", None)
    if previous is not None:
        _hooks.append(previous)
    uwsgi.post_fork_hook = _after_fork


def _check_threads(uwsgi: Any) -> None:
    """Say, once, that a uWSGI does not let threads run: such a worker reports only when it ends."""
    import re

    version = tuple(int(number) for number in re.findall(rb"\d+", uwsgi.version)[:3])
    if version < _WITH_THREADS and not {"enable-threads", "threads"} & set(uwsgi.opt) and uwsgi.worker_id() <= 1:
        say("uWSGI is without --enable-threads: what its workers do is reported only when they end (add that option)")


def _after_fork() -> None:
    from stardust_auto.process.fork import run_in_child

    run_in_child()
    for hook in _hooks or ():
        hook()


# -- applications ----------------------------------------------------------------------------------------------------


def await_uwsgi(install: Callable[[], None]) -> None:
    """Call ``install`` as soon as uWSGI, or mod_wsgi, loads an application, and trace that one.

    They make themselves known only after Python's start-up files have run, and then say nothing: a profile function waits for
    the next call from C. It is gone while the application is loaded and when requests are served.
    """
    if sys.getprofile() is None:
        sys.setprofile(_Arrival(install))


class _Arrival:
    """The profile function until one of them is there; not for long where it never comes."""

    def __init__(self, install: Callable[[], None]) -> None:
        self._install = install
        self._left = _PATIENCE

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
            if "uwsgi" in sys.modules:  # mod_wsgi says which application it calls
                follow_forks()
                _Loads()(frame, event, None)


class _Loads:
    """The profile function between two calls from C, until the first request."""

    def __init__(self) -> None:
        self._left = _MOST
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
            # Nothing calls this without a trace function: it is dropped when the call ends, and that is what counts.
            frame.f_trace = _AtEnd(self, frame)

    def ended(self, module: str) -> None:
        """A call from C has ended, and uWSGI may now look for its application in ``module``, if it was a load."""
        if sys.getprofile() is not None:  # without our own nobody would put the original back
            return
        try:
            for replaced in _stand_in(module):
                self._replaced.append(replaced)
                _given.append(replaced[2])
        except Exception as error:  # noqa: BLE001 - uWSGI must find its application whatever is wrong with us
            say(f"the application is not traced, {type(error).__name__}: {error}")
        sys.setprofile(self)


class _AtEnd:
    """Says that a frame has gone. To a debugger that finds it there, it is a trace function that does nothing."""

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
    """Replace what uWSGI may take for an application of this module: entries, name, what is there now, and what was."""
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
