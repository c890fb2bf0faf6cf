"""stardustctl in this process, on a real embedded server and real login sessions."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from _kit.ctl import Result

from stardust_auto.ctl import main
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SETTINGS = """
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from stardust_auto import Local, StardustConfigDict, StardustSettings, Static


class Database(BaseModel, frozen=True):
    host: str = "localhost"
    pool: int = Field(default=5, ge=1, le=50)


class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")

    database: Database = Database()
    discount: int = Field(default=0, ge=0, le=90)
    api_key: SecretStr = SecretStr("")
    port: Annotated[int, Local] = 8080
    workers: Annotated[int, Static] = 2


class Needy(StardustSettings):
    region: str
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, a state folder and an environment without anything of ours."""
    for name in list(os.environ):
        if name.upper().startswith(("STARDUST_", "SHOP_", "STARSERVER", "STARAPPID", "STARSECRET")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(period=1) as running:
        yield running


@pytest.fixture
def program(own_place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with settings classes in the working directory; its name is the class."""
    (own_place / "shop_settings.py").write_text(SETTINGS)
    path = list(sys.path)
    yield "shop_settings:Settings"
    sys.modules.pop("shop_settings", None)
    sys.path[:] = path


@pytest.fixture
def ctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run stardustctl with these words."""

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["stardustctl", *words])
        capsys.readouterr()
        code = main()
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def shop(ctl: Callable[..., Result], server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run stardustctl as administrator of the server, for the application ``shop``."""
    monkeypatch.setenv("STARDUST_SERVER", server.url)
    monkeypatch.setenv("STARDUST_APP_ID", "shop")
    monkeypatch.setenv("STARDUST_ADMIN_KEY", server.key)
    return ctl
