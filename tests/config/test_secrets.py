# ruff: noqa: RUF012 - pydantic copies the defaults of fields
"""Nothing secret gets out. One planted value, looked for everywhere."""

from __future__ import annotations

import io
import json
import logging
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field, Secret, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsError
from typing_extensions import Self

from stardust_auto import live
from stardust_auto.config import (
    ConfigClient,
    CsvList,
    InvalidSettingsError,
    Masked,
    MemoryClient,
    StardustConfigDict,
    StardustSettings,
)
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from pathlib import Path

    from _kit.config_center import ScriptedCenter

PLANTED = "hunter2-planted-secret"


class Vault(StardustSettings):
    class Db(BaseModel, frozen=True):
        url: Annotated[str, Masked] = ""
        password: str = ""
        port: int = 1

    model_config = StardustConfigDict(env_prefix="SHOP_")
    key: SecretStr = SecretStr("")
    card: Secret[str] | None = None
    marked: Annotated[dict[str, str], Masked] = {}
    database_dsn: str = ""
    db: Db = Db()
    dbs: list[Db] = []
    endpoint: str = ""
    count: int = 0
    names: CsvList[str] = []
    required: Annotated[int, Field(ge=0)] = 0

    @field_validator("key")
    @classmethod
    def talkative(cls, value: SecretStr) -> SecretStr:
        if "bad" in value.get_secret_value():
            raise ValueError(f"cannot use {value.get_secret_value()}")
        return value

    @model_validator(mode="after")
    def gossip(self) -> Self:
        if self.count == 13:
            raise ValueError(f"13 with {self.key.get_secret_value()} and {self.db.password} and {self.db.url}")
        return self


SECRETS = {
    "key": PLANTED,
    "card": PLANTED,
    "marked:x": PLANTED,
    "database_dsn": f"postgres://u:{PLANTED}@h/db",
    "db:url": f"redis://:{PLANTED}@h/0",
    "db:password": PLANTED,
    "dbs:0:password": PLANTED,
    "endpoint": f"https://user:{PLANTED}@host/path",
}

REFUSED: list[dict[str, str]] = [
    {"count": "13"},
    {"count": PLANTED},
    {"key": f"bad {PLANTED}"},
    {"db": f'{{"password": "{PLANTED}", "port": "x"}}'},
    {"db": f'{{"password": "{PLANTED}", '},
    {"marked": f'["{PLANTED}"'},
    {"dbs": f'[{{"port": "{PLANTED}"}}]'},
    {"dbs:0:port": PLANTED},
    {"required": f"-1{PLANTED}"},
    {"db:port": f" {PLANTED}"},
]


def everything_of(error: BaseException) -> str:
    """All that a program, a log handler or an error tracker can get out of an exception."""
    parts = [str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error))]
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += [str(one), repr(vars(one))]
        if isinstance(one, ValidationError):
            parts += [repr(one.errors()), one.json()]
        todo += [one.__cause__, one.__context__]
        frame = one.__traceback__
        while frame is not None:
            if "stardust_auto/config" in frame.tb_frame.f_code.co_filename:
                parts += [repr(value) for value in frame.tb_frame.f_locals.values()]
            frame = frame.tb_next
    return "\n".join(parts)


@pytest.fixture
def log() -> Any:
    """Everything that any logger says, at the lowest level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.case("C70")
@pytest.mark.parametrize("bad", REFUSED)
def test_a_refused_update_tells_no_value(bad: dict[str, str], log: io.StringIO) -> None:
    client = MemoryClient(SECRETS)
    handle = live(Vault, client=client)
    handle.start()
    errors: list[InvalidSettingsError] = []
    handle.on_rejected(errors.append)
    assert not client.publish({**SECRETS, **bad})
    assert handle.wait_callbacks(5)
    (error,) = errors
    assert error.problems
    for text in (log.getvalue(), everything_of(error), repr(handle.status), str(handle.status.as_dict())):
        assert PLANTED not in text


@pytest.mark.case("C70")
@pytest.mark.parametrize("bad", REFUSED)
@pytest.mark.parametrize("where", ["remote", "environment", "argument", "alone"])
def test_a_failed_start_tells_no_value(
    bad: dict[str, str], where: str, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = dict(SECRETS)
    arguments: dict[str, Any] = {}
    for key, value in bad.items():
        if where in ("environment", "alone"):
            monkeypatch.setenv(f"SHOP_{key.replace(':', '__').upper()}", value)
        elif where == "argument" and ":" not in key:
            arguments[key] = value
        else:
            remote[key] = value
    if where == "alone":
        for key, value in SECRETS.items():
            if key not in bad and not (key.split(":")[0] in bad and key.split(":")[0] in ("dbs", "marked")):
                monkeypatch.setenv(f"SHOP_{key.replace(':', '__').upper()}", value)
    failure: BaseException | None = None
    try:
        if where == "alone":
            Vault()
        else:
            live(Vault, client=MemoryClient(remote), init=arguments).start()
    except (ValidationError, SettingsError, InvalidSettingsError) as error:
        failure = error
    if where == "alone" and any(key.startswith("dbs:") for key in bad):
        return  # the environment has no numbered lists
    assert failure is not None
    assert PLANTED not in everything_of(failure)
    assert PLANTED not in log.getvalue()


@pytest.mark.case("C70", "C71")
def test_explain_show_status_and_repr_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB__PASSWORD", f"{PLANTED}-env")
    monkeypatch.setenv("SHOP_KEY", f"{PLANTED}-env")
    client = MemoryClient(SECRETS)
    handle = live(Vault, client=client)
    texts = [
        repr(handle),
        repr(handle.status),
        repr(client.snapshot),
        repr(handle._loader.state.accepted),
        repr(handle.client),
    ]
    for path in (*Vault.model_fields, "db.password", "db.url", "db.port", "dbs.0", "dbs.0.password", "marked.x"):
        explanation = handle.explain(path)
        texts += [str(explanation), repr(explanation), json.dumps(explanation.as_dict())]
    assert PLANTED not in "\n".join(texts)
    assert str(handle.explain("key")) == (
        'key = ***   from env SHOP_KEY\n  shadowed: stardust memory v1 key "key" = *** ; default = ***'
    )
    assert handle.explain("endpoint").value == "'https://***@host/path'"
    assert handle.explain("db").value == "{url=***, password=***, port=1}"


@pytest.mark.case("C70")
def test_changed_paths_are_told_and_values_are_not(log: io.StringIO) -> None:
    client = MemoryClient(SECRETS)
    live(Vault, client=client).start()
    client.publish({**SECRETS, "key": f"{PLANTED}2", "marked:x": f"{PLANTED}2", "count": "5"})
    assert "key" in log.getvalue()
    assert "marked.x" in log.getvalue()
    assert PLANTED not in log.getvalue()


@pytest.mark.case("C70")
def test_the_debug_output_of_pydantic_settings_is_not_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYDANTIC_SETTINGS_DEBUG prints every source in clear: a live handle does not feed it."""
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    caplog.set_level(logging.DEBUG)
    live(Vault, client=MemoryClient(SECRETS)).start()
    assert PLANTED not in caplog.text
    if hasattr(BaseSettings, "_settings_log_debug"):  # from 2.16 on
        assert "stardust:memory:: key, card" in caplog.text


def test_the_client_hides_its_secret_and_its_values(center: ScriptedCenter, log: io.StringIO) -> None:  # case 70
    center.values = SECRETS
    client = ConfigClient(center.url, "shop", secret=PLANTED)
    client.refresh()
    client.stop()
    assert PLANTED not in "\n".join([repr(client), repr(vars(client)), repr(client.snapshot), log.getvalue()])


class Explained(StardustSettings):
    class Db(BaseModel, frozen=True):
        host: str = "h"
        pool: int = 5

    model_config = StardustConfigDict(env_prefix="SHOP_")
    db: Db = Db()
    rate: float = 0.1
    url: str = Field("u", alias="api.url")
    sizes: dict[str, int] = {}


@pytest.mark.case("C71")
def test_explain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_DB__POOL", "77")
    client = MemoryClient({"db:pool": "9", "Api:Url": "v", "sizes:a": "1"}, app_id="shop", scope="prod", version=42)
    handle = live(Explained, client=client)
    assert str(handle.explain("db.pool")) == (
        "db.pool = 77   from env SHOP_DB__POOL\n  shadowed: stardust shop/prod v42 key \"db:pool\" = '9' ; default = 5"
    )
    assert str(handle.explain("db.host")) == "db.host = 'h'   from default"
    assert str(handle.explain("rate")) == "rate = 0.1   from default"
    assert str(handle.explain("url").winner) == 'stardust shop/prod v42 key "Api:Url"'
    assert str(handle.explain("sizes.a").winner) == 'stardust shop/prod v42 key "sizes:a"'
    assert (handle.explain("db.pool").env, handle.explain("db.pool").key) == ("SHOP_DB__POOL", "db:pool")
    monkeypatch.delenv("SHOP_DB__POOL")
    monkeypatch.setenv("SHOP_DB", '{"pool": 78}')
    handle.reload()
    assert str(handle.explain("db.pool").winner) == "env SHOP_DB"
    with handle.override({"db.pool": 1}):
        assert str(handle.explain("db.pool").winner) == "override of this context or process"
    with pytest.raises(KeyError, match=r"did you mean 'db\.pool'"):
        handle.explain("db.pol")
    with pytest.raises(KeyError):
        handle.explain("")


@pytest.mark.case("C74")
def test_polls_make_no_spans_and_a_live_setting_may_steer_the_tracer(
    center: ScriptedCenter,
) -> None:
    contexts: list[object] = []

    class Sampling(StardustSettings):
        rate: float = 1.0

        @field_validator("rate")
        @classmethod
        def where(cls, value: float) -> float:
            contexts.append(current_span.get())
            return value

    center.values = {"rate": "0.5"}
    client = ConfigClient(center.url, "shop")
    handle = live(Sampling, client=client)
    assert handle.current.rate == 0.5
    assert contexts
    assert all(context is SUPPRESSED for context in contexts)
    client.stop()
