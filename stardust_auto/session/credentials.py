"""Issued credentials, kept for the next start (protocol.md §2.2): 0600, one file per server and application."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stardust_auto.environment.cache_folder import cache_folder
from stardust_auto.log import get_logger
from stardust_auto.privacy import Secret
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.transport.servers import Server

logger = get_logger(__name__)
_MAX_BYTES: Final = 4096
#: Between two attempts to get a lock that another process holds.
_LOCK_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Credentials:
    """Name and secret of an application, as it logs in."""

    app_id: str
    secret: Secret | None


class CredentialStore:
    """The file of one server and application. Never raises: without a usable folder nothing is kept, which is logged once."""

    def __init__(self, folder: str | None, server: Server, app_id: str) -> None:
        self._folder = folder
        self._key = f"{server.url.lower()}|{app_id.lower()}"
        self._complained = False

    @property
    def path(self) -> str:
        """Where the credentials are."""
        folder = self._folder = self._folder or cache_folder()
        return os.path.join(folder, f"credentials-{hashlib.sha256(self._key.encode()).hexdigest()[:20]}.json")

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Let one process in at a time, waiting at most ``seconds``. Without a folder that can be locked, let all in."""
        handle = self._lock(seconds)
        try:
            yield
        finally:
            if handle is not None:
                _unlock(handle)

    def _lock(self, seconds: float) -> int | None:
        if sys.platform == "win32":
            return None
        import fcntl

        patience = threading.Event()  # time.sleep may be a mock of the program's
        deadline = monotonic() + seconds
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None  # nothing can be kept there either, which is logged then
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if monotonic() >= deadline:
                    break
                patience.wait(_LOCK_POLL_SECONDS)
            except OSError:
                break
        os.close(handle)
        return None  # a login that may be refused is better than none

    def load(self) -> Credentials | None:
        """The saved credentials, unless another user could have written or read them."""
        try:
            # O_NOFOLLOW: another user may have put a link there.
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
            with os.fdopen(handle, "rb") as file:
                state = os.fstat(handle)
                if os.name == "posix" and (state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o077):
                    return None
                saved = json.loads(file.read(_MAX_BYTES))
            if saved["key"] != self._key:
                return None
            return Credentials(str(saved["app_id"]), Secret(str(saved["secret"])))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._complain("read", error)
            return None

    def save(self, credentials: Credentials) -> bool:
        """Replace the file atomically; whether it worked."""
        if credentials.secret is None:
            return False
        content = {"key": self._key, "app_id": credentials.app_id, "secret": credentials.secret.reveal()}
        import tempfile

        temporary = None
        try:
            path = self.path
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".credentials-", dir=os.path.dirname(path))  # mode 0600
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file)
            os.replace(temporary, path)
        except OSError as error:
            self._complain("keep", error)
            if temporary is not None and os.path.exists(temporary):
                os.unlink(temporary)
            return False
        return True

    def forget(self) -> None:
        """Remove credentials that a server refused."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain("remove", error)

    def _complain(self, what: str, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            logger.warning("cannot %s issued credentials in %s: %s", what, os.path.dirname(self.path), reason)


def _unlock(handle: int) -> None:
    if sys.platform != "win32":
        import fcntl

        # Fork: a child forked in the meantime shares the descriptor, so closing ours would not release the lock.
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
