"""Activation of this interpreter: the one routine behind the launcher, ``.pth``, ``.start`` and ``sitecustomize``.

It runs before the first line of the program, in every Python of a process tree, so it costs next to nothing: no
import but ``os``, ``sys`` and our small tables, no thread, no socket, no file but those of the platform (``platform_files.py``).
What it leaves behind is one entry in ``sys.meta_path`` that waits for the first library we can trace.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from stardust_auto.environment.settings import AgentSettings

#: The only directory that the launcher puts on ``PYTHONPATH``; it holds nothing but ``sitecustomize.py``.
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
#: Variable that names the launcher's interpreter: the agent stays out of every other one.
MARK = "STARDUST_AUTO_PYTHON"
#: Variable that holds the pid of the one process that prints ``--summary``.
SUMMARY = "STARDUST_AUTO_SUMMARY"

_OFF = frozenset(("0", "false", "no", "off", "n", "f"))
_ON = frozenset(("1", "true", "yes", "on", "y", "t"))

#: Set once by :func:`activate` and inherited by forked children.
_settings: AgentSettings | None = None


def interpreter_mark() -> str:
    """What tells one Python installation from another: version and prefix."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}:{sys.prefix}"


def activate_if_asked() -> bool:
    """:func:`activate`, if ``STARDUST_AUTO`` is on. For ``.pth`` and ``.start``, which every start of Python runs."""
    return os.environ.get("STARDUST_AUTO", "").strip().lower() in _ON and activate()


def activate() -> bool:
    """Make this interpreter ready to trace; ``True`` if the agent is active (now, or already).

    Silent and quick when there is nothing to do: switched off, no server configured, or not the interpreter that the
    launcher belongs to. An unusable ``STARDUST_*`` value is one line on stderr, and the program runs without the agent.
    Never raises, never writes to stdout.
    """
    global _settings
    if _settings is not None:
        return True
    environ = os.environ
    if not _wanted(environ) or not _own_interpreter(environ):
        return False
    try:
        from stardust_auto.environment.settings import AgentSettings
        from stardust_auto.errors import EnvironmentVariableError

        try:
            settings = AgentSettings.from_environ(environ)
        except EnvironmentVariableError as error:
            say(f"{error}; the program runs without the agent")
            return False
        for problem in settings.problems:
            say(problem)
        if not settings.enabled or not (settings.servers or summary_wanted()):
            return False
        if settings.trace_enabled:
            _watch(settings)
        if settings.log_level or summary_wanted():
            from stardust_auto.agent import agent

            agent.prepare(settings)
        _settings = settings
    except Exception as error:  # noqa: BLE001 - the program must start whatever is wrong with us
        say(f"not active, {type(error).__name__}: {error}")
        return False
    return True


def active_settings() -> AgentSettings | None:
    """The settings that :func:`activate` found, or ``None`` where it did nothing."""
    return _settings


def summary_wanted() -> bool:
    """Whether this very process is to print the table of ``--summary``: its children are not."""
    return os.environ.get(SUMMARY) == str(os.getpid())


def _wanted(environ: Mapping[str, str]) -> bool:
    if environ.get("STARDUST_ENABLED", "").strip().lower() in _OFF:
        return False
    if environ.get("STARDUST_SERVER", "").strip() or summary_wanted():
        return True
    if any(key.lower() == "starserver" and environ[key].strip() for key in environ):
        return True
    from stardust_auto.environment import platform_files

    return environ.get("STARDUST_DISCOVER", "").strip() != "" or platform_files.present()


def _own_interpreter(environ: Mapping[str, str]) -> bool:
    mark = environ.get(MARK)
    if mark is None or mark == interpreter_mark():
        return True
    version, _, prefix = mark.partition(":")
    try:
        return interpreter_mark().startswith(version + ":") and os.path.samefile(prefix, sys.prefix)
    except OSError:
        return False


def say(line: str) -> None:
    """One line on stderr, for what people should know and a log might not show."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"stardust-auto: {line}\n")
        except (OSError, ValueError):  # closed by whoever started us
            return


def _watch(settings: AgentSettings) -> None:
    from stardust_auto.instrumentation.targets import TARGET_MODULES

    names = [*TARGET_MODULES, *foreign_targets(sys.path)]
    finder = TargetFinder(names, settings)
    if not sys.orig_argv:  # the interpreter is part of another program, which may be uWSGI or mod_wsgi
        from stardust_auto.agent.uwsgi import await_uwsgi

        await_uwsgi(finder.install)
    if any(name in sys.modules for name in names):
        finder.install()
    else:
        sys.meta_path.insert(0, finder)


def foreign_targets(folders: Sequence[str]) -> list[str]:
    """Modules that other distributions on the path have an integration for: the names of their entry points.

    Read without ``importlib.metadata``, whose import alone costs more than all of activation; a hundred distributions take less
    than a millisecond. What is not in files (a zip, an exotic finder) is found when the first target is imported.
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

    They, and wrapt with them, cost several times the start-up budget, so a program that imports no target never
    pays for them.
    """

    __slots__ = ("_installed", "_lock", "_names", "_settings")

    def __init__(self, names: Sequence[str], settings: AgentSettings) -> None:
        from _thread import RLock

        self._names = frozenset(names)
        self._settings = settings
        self._lock = RLock()
        self._installed = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """``None``, or for a target library what the finders behind us find, with a loader that calls :meth:`install`.

        Nothing is imported here: Python holds its one global import lock while it asks a finder, and whoever then waits for
        a module that another thread is importing (wrapt needs asyncio, say) waits for ever.
        """
        if fullname not in self._names:
            if fullname == "pyuwsgi" and sys.modules.get(fullname) is None:  # uWSGI as a library, started by a script
                from stardust_auto.agent.uwsgi import await_uwsgi

                await_uwsgi(self.install)
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None) if finder is not self else None
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if not self._installed and hasattr(spec.loader, "exec_module"):
                    spec.loader = TriggerLoader(self, spec.loader)  # type: ignore[assignment] # it is the loader, but for one call
                return spec
        return None

    def install(self) -> None:
        """Bring in the integrations, once; other threads that import a target meanwhile wait for it."""
        # A bound, so that a cycle of imports between two threads ends in a library that is not traced, not in a deadlock.
        if not self._lock.acquire(timeout=10.0):
            return
        try:
            if not self._installed:
                self._installed = True
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                from stardust_auto.agent import agent

                agent.install(self._settings)
        except Exception as error:  # noqa: BLE001 - an import of the program must not fail because of us
            say(f"tracing is off, {type(error).__name__}: {error}")
        finally:
            self._lock.release()


class TriggerLoader:
    """The loader of the first target library: the real one, but the integrations come in before the module exists."""

    __slots__ = ("_finder", "_loader")

    def __init__(self, finder: TargetFinder, loader: Any) -> None:
        self._finder = finder
        self._loader = loader

    @property  # type: ignore[misc] # isinstance() is to find the class of the real loader
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride] # as above
        return type(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Called without the global import lock, and before the module is known."""
        self._finder.install()
        create = getattr(self._loader, "create_module", None)
        return create(spec) if create is not None else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with its own loader in place, then the hooks that were too late to be asked for it."""
        loader = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader
        module.__loader__ = loader
        loader.exec_module(module)
        try:
            from wrapt import notify_module_loaded

            notify_module_loaded(module)
        except Exception as error:  # noqa: BLE001 - an import of the program must not fail because of us
            say(f"{module.__name__} is not traced, {type(error).__name__}: {error}")
