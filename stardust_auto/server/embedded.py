"""The server inside a process: for tests, notebooks and demonstrations."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stardust_auto.process.clock import SYSTEM_CLOCK, Clock
from stardust_auto.process.context import suppressed
from stardust_auto.process.signals import blocked
from stardust_auto.server.serving import bind, build, url_of
from stardust_auto.server.settings import ServerSettings
from stardust_auto.server.store.store import Store

if TYPE_CHECKING:
    from types import TracebackType

    from stardust_auto.server.services import Services


class EmbeddedServer:
    """A server in a thread of its own.

    ``data`` is the folder of its file (None: a temporary one that is removed at the end), ``port`` 0 a free port, ``clock``
    returns Unix ms; ``settings`` are those of ``ServerSettings``.

        with EmbeddedServer(period=1) as server:
            requests.post(f"{server.url}/App/Login", json={"AppId": "demo"})
    """

    def __init__(
        self,
        data: str | Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="stardust-") if data is None else None
        self._folder = Path(self._temporary.name if self._temporary is not None else str(data))
        self._settings = ServerSettings(**settings)
        self._clock = clock
        self._address = (host, port)
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.url = ""
        """Address, known from the start of the server on."""

    def start(self) -> EmbeddedServer:
        """Listen; returns when connections are accepted.

        Raises:
            OSError: the port is taken.
        """
        self._listener = bind(*self._address)
        self.url = url_of(self._listener)
        try:
            # A program that is traced and has a server inside does not see the server's own statements.
            with suppressed():
                self.store = Store(self._folder, self._settings, self._clock)
        except BaseException:
            self._listener.close()
            raise
        self._server, self.services = self._build()
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="stardust-server", daemon=True)
        with blocked():
            self._thread.start()
        self._ready.wait(30)
        if self._failure is not None or not self._ready.is_set():
            raise RuntimeError("the embedded server did not start") from self._failure
        return self

    def _build(self) -> tuple[Any, Services]:
        return build(self.store, self._settings, self._listener, self._ready.set)

    def _run(self) -> None:
        try:
            with suppressed():
                asyncio.run(self._server.serve(sockets=[self._listener]))
        except BaseException as error:  # noqa: BLE001 - start() raises it in the thread of the caller
            self._failure = error
        finally:
            self._ready.set()

    def stop(self) -> None:
        """Close every connection, end the thread, close the file. A second call does nothing."""
        if self._thread is None:
            return
        self._server.stop()
        self._thread.join(10)
        self._thread = None
        self._listener.close()
        self.store.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def key(self) -> str:
        """The administrator's key."""
        return self.services.console_key

    @property
    def app_secret(self) -> str:
        """A secret that every application may log in with."""
        return self.services.app_secret

    @property
    def console_url(self) -> str:
        """The console with the key in the fragment, which a browser never sends."""
        return f"{self.url}/console/#key={self.key}"

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
