"""Activation of this interpreter: what the launcher, ``.pth``, ``.start``, ``sitecustomize`` and ``stardust_auto.activate`` come to.

It runs before the first line of the program, so it imports little: the standard library's ``os`` and ``sys``, and small tables. What it
leaves behind is one entry in ``sys.meta_path`` that waits for the first library that the agent can trace.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery would cost more than all of activation

from stardust_auto import agent
from stardust_auto.activation.marks import say, summary_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from stardust_auto.environment.settings import AgentSettings

#: How long an import waits for another thread that brings in the integrations. A cycle of imports between two threads then ends in a
#: library that is not traced, not in a deadlock.
_INSTALL_SECONDS = 10.0


def activate(*, server: str | None, app_id: str | None, secret: str | None, scope: str | None) -> bool:
    """See :func:`stardust_auto.activation.activate`."""
    if agent.active_options() is not None:
        return True
    try:
        from stardust_auto.environment.settings import AgentSettings
        from stardust_auto.environment.variable import parse_servers
        from stardust_auto.errors import EnvironmentVariableError

        try:
            servers = parse_servers(server) if server else None
            options = AgentSettings.from_environ(servers=servers, app_id=app_id, secret=secret, scope=scope)
        except EnvironmentVariableError as error:
            say(f"{error}; the program runs without the agent")
            return False
        for problem in options.problems:
            say(problem)
        if not options.enabled or not (options.servers or summary_wanted()):
            return False
        agent.activate(options)
        if options.log_level:
            from stardust_auto.log import log_to_stderr

            log_to_stderr(options.log_level)
        if summary_wanted():
            from stardust_auto.agent.install import install

            install(options, summary=True)
        if options.trace_enabled:
            _watch(options)
    except Exception as error:  # noqa: BLE001 - the program must start whatever is wrong with us
        say(f"not active, {type(error).__name__}: {error}")
        return False
    return True


def _watch(options: AgentSettings) -> None:
    from stardust_auto.instrumentation.targets import TARGET_MODULES

    names = [*TARGET_MODULES, *foreign_targets(sys.path)]
    finder = TargetFinder(names, options)
    if not sys.orig_argv:  # the interpreter is part of another program, which may be uWSGI or mod_wsgi
        from stardust_auto.activation.uwsgi import await_uwsgi

        await_uwsgi(finder.install)
    if any(name in sys.modules for name in names):
        finder.install()
    else:
        sys.meta_path.insert(0, finder)


def foreign_targets(folders: Sequence[str]) -> list[str]:
    """Modules that other distributions on the path have an integration for: the names of their entry points.

    Read without ``importlib.metadata``, whose import alone costs more than all of activation; a hundred distributions take less than a
    millisecond. What is not in files (a zip, an exotic finder) is found when the first target is imported.
    """
    names = []
    for folder in folders:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")):
                try:
                    with open(f"{folder or '.'}/{entry}/entry_points.txt", "rb", 0) as file:
                        text = file.read()
                except OSError:  # most have none
                    continue
                _, header, group = text.partition(b"[stardust_auto.instrumentation]")
                if header:
                    lines = group.partition(b"\n[")[0].decode("utf-8", "replace").splitlines()
                    names += [line.partition("=")[0].strip() for line in lines if "=" in line and line[0] not in "#;"]
    return names


class TargetFinder:
    """A meta-path entry that finds nothing itself: it brings in the integrations before the first target library.

    They, and wrapt with them, cost several times the start-up budget. A program that imports no target never pays for them.
    """

    __slots__ = ("_installed", "_lock", "_names", "_options")

    def __init__(self, names: Sequence[str], options: AgentSettings) -> None:
        from _thread import RLock

        self._names = frozenset(names)
        self._options = options
        self._lock = RLock()
        self._installed = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """``None``; for a target library what the finders behind this one find, as a spec that calls :meth:`install`.

        Nothing is imported here. Python holds its one global import lock while it asks a finder: waiting for a module that another thread
        is importing (wrapt needs asyncio, say) would be a deadlock.
        """
        if fullname not in self._names:
            if fullname == "pyuwsgi" and sys.modules.get(fullname) is None:  # uWSGI as a library, started by a script
                from stardust_auto.activation.uwsgi import await_uwsgi

                await_uwsgi(self.install)
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None) if finder is not self else None
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if not self._installed and type(spec) is ModuleSpec:
                    _TriggerSpec.finder = self
                    spec.__class__ = _TriggerSpec
                return spec
        return None

    def install(self) -> None:
        """Bring in the integrations, once; other threads that import a target meanwhile wait for it."""
        if not self._lock.acquire(timeout=_INSTALL_SECONDS):
            return
        try:
            if not self._installed:
                self._installed = True
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                from stardust_auto.agent.install import instrument

                instrument(self._options)
        except Exception as error:  # noqa: BLE001 - an import of the program must not fail because of us
            say(f"tracing is off, {type(error).__name__}: {error}")
        finally:
            self._lock.release()


class _TriggerSpec(ModuleSpec):
    """The spec of the first target library until that is imported: a plain spec, but for one attribute.

    The import system sets ``_initializing`` before it runs the module, without the global import lock, and again after that. The loader
    stays the real one: other agents and import hooks set attributes on it, compare it, or copy it.
    """

    finder: TargetFinder

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, ModuleSpec.__name__, 1)

    @property
    def _initializing(self) -> bool:
        return bool(self.__dict__.get("_initializing", False))

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        before = self.__dict__.get("_initializing", False)
        self.__dict__["_initializing"] = value
        if value:
            self.finder.install()
        elif before:
            self.__class__ = ModuleSpec  # type: ignore[assignment] # what it was
            module = sys.modules.get(self.name)
            if module is not None:
                _notify(module)


def _notify(module: Any) -> None:
    """Run the hooks of the integrations, which were registered too late to be asked when the module was looked for."""
    try:
        from wrapt import notify_module_loaded

        notify_module_loaded(module)
    except Exception as error:  # noqa: BLE001 - an import of the program must not fail because of us
        say(f"{module.__name__} is not traced, {type(error).__name__}: {error}")
