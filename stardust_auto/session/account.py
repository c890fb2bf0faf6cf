"""Who logs in: the application, its credentials, and the identity of this instance (protocol.md §2.2)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stardust_auto.privacy import Secret
from stardust_auto.session.credentials import Credentials, CredentialStore
from stardust_auto.wire.messages import LoginReply, LoginRequest
from stardust_auto.wire.proof import salted_md5
from stardust_auto.wire.text import clean_id, dotted_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.environment.identity import Identity
    from stardust_auto.transport.servers import Server


class Account:
    """Configured credentials, those that a server issued, and a ClientId per process."""

    def __init__(self, server: Server, identity: Identity) -> None:
        self.app_name = identity.app_name or identity.app_id
        self.version = dotted_version(identity.version)
        #: Seconds between two heartbeats that the operator chose.
        self.heartbeat = identity.heartbeat
        self._node_code = identity.node_code
        self._configured = Credentials(identity.app_id, Secret(identity.secret) if identity.secret else None)
        self._store = CredentialStore(identity.cache_dir, server, identity.app_id)
        self._chosen_client_id = identity.client_id
        self._pid = os.getpid()
        self.reset()

    def reset(self) -> None:
        """As new. A forked child is another instance, so it has another ClientId."""
        self._issued: Credentials | None = None
        self._client_id: str | None = None

    @property
    def app_id(self) -> str:
        """The application's name as the server spells it."""
        return (self._issued or self._configured).app_id

    @property
    def client_id(self) -> str:
        """This instance: what the operator chose (with the pid added in a forked child), else ``<ipv4>@<pid>``."""
        if self._client_id is None:
            if self._chosen_client_id is None:
                from stardust_auto.session.metrics import default_client_id

                self._client_id = clean_id(default_client_id())
            else:
                suffix = "" if os.getpid() == self._pid else f"-{os.getpid()}"
                self._client_id = clean_id(self._chosen_client_id[: 50 - len(suffix)] + suffix)
        return self._client_id

    def use_other_client_id(self) -> None:
        """Another instance uses our ClientId: take a new one."""
        from stardust_auto.session.metrics import other_client_id

        self._client_id = other_client_id(self.client_id)

    @property
    def secrets(self) -> tuple[Secret | None, ...]:
        """What must not show up in a text."""
        return (self._configured.secret, self._issued.secret if self._issued else None)

    def candidates(self) -> Iterator[Credentials]:
        """The credentials to log in with, best first: issued ones, then the configured ones."""
        issued = self._issued or self._store.load()
        if issued is not None and issued != self._configured:
            yield issued
        yield self._configured

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Serialise first logins across processes. The first is issued a secret; the others find it on disk when their turn comes."""
        if self._configured.secret is not None or self._issued is not None or self._store.load() is not None:
            yield
            return
        with self._store.turn(seconds):
            yield

    def accepted(self, credentials: Credentials, reply: LoginReply) -> None:
        """The server accepted ``credentials``, and may have issued others.

        Issued credentials are forgotten only when the server accepts the configured ones in their place.
        An application that is disabled for a while is refused too, and must not lose its secret.
        """
        if reply.code and reply.secret:
            credentials = Credentials(reply.code, Secret(reply.secret))
            self._store.save(credentials)
        elif credentials is self._configured:
            self._store.forget()
        self._issued = credentials

    def kept(self, credentials: Credentials) -> None:
        """The server has taken our own ``credentials`` in the place of those that it issued."""
        self._store.forget()
        self._issued = credentials

    def login_request(self, credentials: Credentials, now_ms: int) -> LoginRequest:
        """A login at ``now_ms`` of the *server's* clock, which the salt of the proof is made of."""
        from stardust_auto.session.metrics import compile_time, local_ipv4

        return LoginRequest(
            app_id=credentials.app_id,
            secret=salted_md5(credentials.secret.reveal(), now_ms // 1000) if credentials.secret else None,
            app_name=self.app_name,
            node_code=self._node_code,
            client_id=self.client_id,
            version=self.version,
            compile=compile_time(),
            ip=",".join(local_ipv4()),
            time=now_ms,
        )
