"""The program's own settings class, found by name and built from what the center holds, without starting the program."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings

from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.config.typed.builder import Built, Reading, build, examine
from stardust_auto.ctl.errors import CtlError, UsageError
from stardust_auto.ctl.target import Target, find_app_target, read_environment
from stardust_auto.environment.variable import parse_servers
from stardust_auto.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from stardust_auto.ctl.center import Configuration


@dataclass(frozen=True, slots=True)
class Program:
    """A settings class and the place in the center that it reads."""

    settings: type[BaseSettings]
    target: Target

    def raw(self, configuration: Configuration, *, staged: bool = False) -> RawSnapshot:
        """The map as the program would get it: as it is live, or once everything staged is published."""
        return make_snapshot(
            configuration.values(staged=staged),
            version=configuration.next_version if staged else configuration.version,
            scope=configuration.scope,
            origin="server",
            app_id=configuration.app,
            server=self.target.server,
        )

    def build(self, raw: RawSnapshot) -> Built[BaseSettings]:
        """One build from ``raw`` and this environment.

        Raises:
            InvalidSettingsError: the class refuses the values; all reasons, none with a value.
            CtlError: the class cannot be built at all.
        """
        # The program's command line is not ours: a class that reads arguments would take stardustctl's.
        with _no_arguments():
            return build(self.settings, raw)

    def read(self, raw: RawSnapshot) -> Reading[BaseSettings]:
        """What the program's sources give with ``raw``, valid or not.

        Raises:
            CtlError: the class cannot be built at all.
        """
        with _no_arguments():
            return examine(self.settings, raw)


def find_program(spec: str, server: str | None, app: str | None, scope: str | None) -> Program:
    """The class of ``spec`` and its place, found as the program itself finds it.

    Option, then environment, then the class's own ``stardust_server`` and ``stardust_scope``: where a program runs is the
    deployment's to say. Which application's map it reads is the class's, so ``stardust_app`` outranks ``STARDUST_APP_ID``.
    """
    settings = load_class(spec)
    config = settings.model_config
    outside = read_environment()
    if server is None and not outside.servers:
        server = _own_server(settings)
    if scope is None and not outside.scope:
        scope = _text(config.get("stardust_scope"))
    return Program(settings, find_app_target(server, app or _text(config.get("stardust_app")), scope))


def _own_server(settings: type[BaseSettings]) -> str | None:
    given = _text(settings.model_config.get("stardust_server"))
    if given is not None:
        try:
            parse_servers(given)
        except ValueError as exc:
            raise UsageError(f"stardust_server {given!r} of {settings.__name__} cannot be used: {exc}") from None
    return given


def with_scope(program: Program, scope: str) -> Program:
    """The same program in another scope."""
    return replace(program, target=replace(program.target, scope=scope))


def load_class(spec: str) -> type[BaseSettings]:
    """Import ``pkg.mod:Settings`` (from the working directory too) or ``path/to/file.py:Settings``.

    Raises:
        UsageError: there is no such module, it fails to import, or the name is not a settings class.
    """
    place, separator, name = spec.rpartition(":")
    if not separator or not place or not name:
        raise UsageError(f"{spec!r} does not name a settings class: pkg.mod:Settings or path/to/file.py:Settings")
    module = _import(place)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        classes = sorted(
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__
        )
        hint = f"; it has {', '.join(classes)}" if classes else ""
        raise UsageError(f"{place} has no {name}{hint}")
    if not (isinstance(found, type) and issubclass(found, BaseSettings)):
        raise UsageError(f"{spec} is not a settings class (a subclass of StardustSettings)")
    return found


def _import(place: str) -> ModuleType:
    path = Path(place)
    try:
        if place.endswith(".py"):
            if not path.is_file():
                raise UsageError(f"there is no file {place}")
            folder = str(path.resolve().parent)
            if folder not in sys.path:
                sys.path.insert(0, folder)
            return _import_file(path)
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    except CtlError:
        raise
    except ModuleNotFoundError as exc:
        raise UsageError(f"cannot import {place}: no module named {exc.name!r}") from exc
    except Exception as exc:
        raise UsageError(f"cannot import {place}: {type(exc).__name__}: {exc}") from exc
    except SystemExit as exc:
        raise UsageError(f"cannot import {place}: it ends the process; put the settings class into a module") from exc


def _import_file(path: Path) -> ModuleType:
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _no_arguments() -> Iterator[None]:
    kept = sys.argv
    sys.argv = kept[:1]
    try:
        yield
    except ConfigError:
        raise
    except Exception as exc:
        raise CtlError(f"the settings class cannot be built: {type(exc).__name__}") from exc
    finally:
        sys.argv = kept


def _text(value: object) -> str | None:
    return str(value) if value else None
