"""Secret and token never show: not in a URL, a log, an exception, a repr, nor in a file that others can read."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from stardust_auto.errors import StardustError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _kit.faulty_server import FaultyServer, Handler

    from stardust_auto.session.session import Session

SECRET, TOKEN, ISSUED = "planted-secret-1f9c", "planted-token-7f3a", "planted-issued-c0de"
PLANTED = (SECRET, TOKEN, ISSUED)


def everything_of(error: BaseException) -> str:
    """The error as a crash reporter shows it: text, arguments, causes, and the local variables of every frame."""
    shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "\n".join(shown)


def hostile(handler: Handler) -> None:
    """Quotes back whatever could be a secret."""
    quoted = f"{SECRET} {TOKEN} {ISSUED} {handler.headers.get('Authorization')} {handler.call_body}"
    handler.reply(None, 500, quoted)


FAULTS: dict[str, dict[str, Callable[[Any], None]]] = {
    "ping refused": {"app/ping": hostile},
    "call refused": {"my/path": hostile},
    "401 loop": {"my/path": lambda handler: handler.reply(None, 401, f"{TOKEN} is no token")},
    "html": {"my/path": lambda handler: handler.reply_bytes(f"<html>{TOKEN}</html>".encode())},
    "problem": {"my/path": lambda handler: handler.reply_json({"title": f"{TOKEN} {ISSUED}"}, 400)},
    "redirect": {"my/path": lambda handler: handler.reply_bytes(b"", 302, {"Location": "http://x.invalid/" + TOKEN})},
    "reset": {"my/path": lambda handler: handler.reset()},
    "503": {"my/path": lambda handler: handler.reply_bytes(TOKEN.encode(), 503)},
    "no token": {"app/login": lambda handler: handler.reply({"code": "demo", "secret": ISSUED, "token": None})},
    "login refused": {"app/login": hostile},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_secrets_do_not_show(
    server: FaultyServer,
    new_session: Callable[..., Session],
    fault: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(1)
    server.token, server.secret = TOKEN, ISSUED
    session = new_session(server.url, secret=SECRET, push=True)
    shown: list[str] = []
    server.answers.update(FAULTS[fault])
    for _ in range(2):
        with pytest.raises(StardustError) as caught:
            session.call("my/path", {"a": 1})
        shown.append(everything_of(caught.value))
    session.start()
    server.wait_for("app/login")
    session.stop()
    parts = (session, session.connection, session.connection.account, session.heartbeat, session.commands)
    shown += [f"{part!r} {vars(part)!r}" for part in parts]
    shown += [f"{record.getMessage()} {record.args!r}" for record in caplog.records]
    shown += [f"{call.method} {call.path}?{call.query}" for call in server.calls]
    # What a server that we never got a token from invents itself cannot be recognised.
    lines = "\n".join(shown).splitlines()
    for value in PLANTED if fault != "login refused" else (SECRET,):
        assert [line for line in lines if value in line] == []
    for path in (tmp_path / "cache").glob("**/*"):
        assert path.stat().st_mode & 0o077 == 0
        assert SECRET not in path.read_text()
    assert all(SECRET not in str(call.body) for call in server.calls)  # only its salted hash travels
    assert all(TOKEN not in str(call.body) for call in server.calls)


def test_the_folder_that_we_make_is_ours_alone(
    server: FaultyServer, new_session: Callable[..., Session], tmp_path: Path
) -> None:
    session = new_session(server.url)
    session.start()
    server.wait_for("app/ping")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_the_logger_writes_nowhere_by_itself() -> None:
    handlers = logging.getLogger("stardust_auto").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
