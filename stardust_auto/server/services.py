"""What every handler works with: the store, the tokens, the sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stardust_auto.server.hub import Hub
from stardust_auto.server.releases import Feedback, Releases
from stardust_auto.server.tokens import Tokens
from stardust_auto.wire.proof import md5_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stardust_auto.server.releases import Published
    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.commands import Command
    from stardust_auto.server.store.store import Store


class Services:
    """One server's parts. Methods without ``async`` may be called from any thread."""

    def __init__(self, store: Store, settings: ServerSettings) -> None:
        self.store = store
        self.settings = settings
        self.hub = Hub()
        self.releases = Releases(store.database, store.clock)
        self.feedback = Feedback(store.instances)
        self.tokens = Tokens(store.secret("token secret"), settings.token_seconds, store.clock)
        self.instance = store.secret("instance")
        self.console_key = store.secret("console key")
        self.app_secret = settings.app_secret or store.secret("application secret")
        """Every application may log in with it: a launcher gives it to the programs that it starts."""
        store.apps.enrol_md5 = md5_hex(self.app_secret)
        self.port = 0
        self.last_activity = store.time.monotonic()

    def touch(self) -> None:
        """Somebody asked something: an idle server does not stop now."""
        self.last_activity = self.store.time.monotonic()

    def push(self, commands: Sequence[Command]) -> int:
        """Push commands to their instances; returns how many had a socket. The others get theirs with a Ping."""
        pushed = 0
        for command in commands:
            if command.client_id is not None and not command.start_time > self.store.clock() + 3_600_000:
                frame = json.dumps(command.message.to_frame(), ensure_ascii=False, separators=(",", ":"))
                pushed += self.hub.post(command.app_id, command.client_id, frame)
        return pushed

    def command(self, app_id: int, command: str, argument: str = "", *, expire_seconds: int = 3600) -> int:
        """Queue a command for every instance that is on line, and push it; returns how many had a socket."""
        clients = list(dict.fromkeys([*self.hub.connected(app_id), *self.store.instances.online_ids(app_id)]))
        return self.push(self.store.commands.add(app_id, clients, command, argument, expire_seconds=expire_seconds))

    def announce(self, published: Published) -> int:
        """Tell every instance that a publish concerns; returns how many had a socket (protocol.md §6.8)."""
        return sum(self.command(app_id, "config/publish") for app_id in published.affected)

    def delete_app(self, app: App) -> None:
        """Delete an application; its sockets are closed. If a program of it still runs and registration is open, it comes back."""
        self.hub.disconnect(app.id)
        self.store.delete_app(app)
        self.releases.forget()
