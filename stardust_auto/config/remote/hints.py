"""``config/publish``, the pushed command: a session has one handler for each command, and several clients may follow it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stardust_auto.config.remote.client import ConfigClient
    from stardust_auto.session.session import Session

COMMAND = "config/publish"

_followers: weakref.WeakKeyDictionary[Session, weakref.WeakSet[ConfigClient]] = weakref.WeakKeyDictionary()


def listen(session: Session, client: ConfigClient) -> None:
    """Give ``client`` a hint for each publish that is announced to ``session``."""
    followers = _followers.get(session)
    if followers is None:
        followers = _followers[session] = weakref.WeakSet()
        session.register_command(COMMAND, lambda _command: _announce(followers))
    followers.add(client)


def _announce(followers: weakref.WeakSet[ConfigClient]) -> str:
    for client in tuple(followers):
        client.hint()
    return "OK"
