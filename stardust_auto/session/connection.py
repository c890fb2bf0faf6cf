"""Login, token and heartbeat of one application on one list of servers (protocol.md §2.2-§2.5, §12).

Knows when to log in again, when to wait, and says each change of state once in the log. Schedules nothing itself.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.log import STATE, get_logger
from stardust_auto.privacy import Secret
from stardust_auto.process import jitter
from stardust_auto.process.clock import monotonic, wall_time
from stardust_auto.wire.messages import LoginReply, PingReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stardust_auto.session.account import Account
    from stardust_auto.session.credentials import Credentials
    from stardust_auto.session.metrics import ProcessMetrics
    from stardust_auto.transport.http import Transport
    from stardust_auto.transport.servers import ServerList
    from stardust_auto.wire.messages import Command

logger = get_logger(__name__)

#: Seconds for one call, as the platform's own client has it (protocol.md §8.3).
CALL_TIMEOUT: Final = 15.0
_BACKOFF_FIRST: Final = 5.0
_BACKOFF_LIMIT: Final = 30.0
#: A refusal lasts until somebody does something about it.
_REFUSED_LIMIT: Final = 60.0
_DEFAULT_PERIOD: Final = 60
#: 2020 to 2100: what is outside is no time in Unix milliseconds.
_PLAUSIBLE_MS: Final = (1_577_836_800_000, 4_102_444_800_000)
_OWN_CALLS: Final = ("App/Login", "App/Ping")
#: A clock further off than this is corrected from the HTTP Date header before a login is given up.
_CLOCK_TOLERANCE_MS: Final = 60_000


class State(str, Enum):
    """Where the session stands with its servers."""

    NEW = "new"
    ONLINE = "online"
    LOST = "lost"
    REFUSED = "refused"
    STOPPED = "stopped"


class _NotEnabledError(ApiError):
    """The server knows the application and its secret, but gives no token (§2.2 step 6, §12.1 row 16)."""


class Connection:
    """One login and one token. Calls are made one at a time; the lock waits no longer than the call may take."""

    def __init__(
        self,
        servers: ServerList,
        account: Account,
        *,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = wall_time,
        uniform: Callable[[float, float], float] = jitter.generator.uniform,
    ) -> None:
        self.servers = servers
        self.account = account
        self.on_online: Callable[[bool], None] = lambda _again: None
        self.on_doubt: Callable[[], None] = lambda: None
        self.on_failed: Callable[[float], None] = lambda _wait: None
        self.on_commands: Callable[[tuple[Command, ...]], None] = lambda _commands: None
        self._clock = clock
        self._wall_clock = wall_clock
        self._uniform = uniform
        self.fresh()

    def fresh(self) -> None:
        """As new: at the start, and in a forked child, which is another instance with a login of its own."""
        self.account.fresh()
        self._lock = threading.RLock()
        self._transport: Transport | None = None
        self._metrics: ProcessMetrics | None = None
        self._token: Secret | None = None
        self._token_works = False
        self._failures = 0
        self._next_attempt = 0.0
        self._changed = self._clock()
        self._announced_server: str | None = None
        self.state = State.NEW
        self.last_error: str | None = None
        self.clock_offset_ms = 0
        self.period = _DEFAULT_PERIOD
        self.last_ping: float | None = None
        #: While the session stops: no call may go on after this moment of the monotonic clock.
        self.deadline: float | None = None
        #: The process ends: what is still to be said is said, and no more than that.
        self.leaving = False

    def abandon(self) -> None:
        """In a forked child: close the parent's connections here, which its server does not notice."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abandon()

    @property
    def online(self) -> bool:
        """Whether the last attempt got through and there is a token."""
        return self.state is State.ONLINE and self._token is not None

    @property
    def wait(self) -> float:
        """Seconds until the next attempt is due."""
        return max(0.0, self._next_attempt - self._clock())

    @property
    def ping_due_in(self) -> float:
        """Seconds until the next heartbeat."""
        if self.last_ping is None:
            return 0.0
        return max(0.0, self.last_ping + self.period - self._clock())

    def now_ms(self) -> int:
        """The server's clock, in Unix milliseconds."""
        return int(self._wall_clock() * 1000) + self.clock_offset_ms

    def use_other_identity(self) -> None:
        """Another instance uses our ClientId: take a new one instead of fighting over the socket (§12.4)."""
        self.account.use_other_client_id()
        self._token = None

    @property
    def token(self) -> Secret | None:
        """The bearer token, for the push socket."""
        return self._token

    def call(
        self,
        path: str,
        body: object,
        *,
        method: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str | None,
        timeout: float,
        repeatable: bool,
    ) -> Any:
        """The ``data`` of one call with our token; logs in before when needed, and once again when the token is refused."""
        deadline = self._clock_deadline(timeout)
        with self._locked(deadline):
            self._open(deadline)
            try:
                return self._send(path, body, method, params, data, content_type, deadline, repeatable=repeatable)
            except ApiError as error:
                if not self._token_at_fault(error, ping=False):
                    raise
            self._token = None
            self._open(deadline)
            return self._send(path, body, method, params, data, content_type, deadline, repeatable=repeatable)

    def beat(self) -> None:
        """Log in when needed, and ping.

        Raises:
            StardustError: not reached or refused; ``wait`` says when to come back.
        """
        deadline = self._clock_deadline(CALL_TIMEOUT)
        with self._locked(deadline):
            if self._token is None:
                self._open(deadline)
                return
            self._await_turn()
            try:
                self._ping(deadline)
            except (ApiError, BadReplyError) as error:
                if isinstance(error, BadReplyError) or not self._token_at_fault(error, ping=True):
                    self._failed(error)
                    raise
            else:
                return
            self._token = None
            self._open(deadline)

    def logout(self, reason: str) -> None:
        """Say good-bye, if somebody is there."""
        deadline = self._clock_deadline(CALL_TIMEOUT)
        with self._locked(deadline):
            if self.online:
                params = {"reason": reason or "stop"}
                self._send("App/Logout", None, "GET", params, None, None, deadline, repeatable=False)
            self._token = None

    def close(self) -> None:
        """Forget the token and close kept connections."""
        self._token = None
        self._set_state(State.STOPPED, None)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _open(self, deadline: float) -> None:
        self._await_turn()
        if self._token is not None:
            return
        try:
            with self.account.turn(max(0.0, deadline - self._clock()) / 2):
                self._login(deadline)
            if self.leaving:
                self.last_ping = self._clock()
                self._succeeded()  # nobody is there to be pushed to any more
            else:
                # At once: an instance that has not pinged since it logged in is never pushed to (§12.4).
                self._ping(deadline)
        except (ApiError, BadReplyError) as error:
            self._token = None
            self._failed(error)
            raise
        except UnavailableError as error:  # what may have arrived is the login, and not the call that it was for
            raise UnavailableError(str(error), retry_after=error.retry_after) from None

    def _login(self, deadline: float) -> None:
        refusal: StardustError = UnavailableError("no credentials")
        for credentials in self.account.candidates():
            for _ in range(2):
                try:
                    self._login_with(credentials, deadline)
                except _NotEnabledError:
                    raise  # the credentials are right
                except ApiError as error:
                    if error.code not in (401, 403):
                        raise  # the server's trouble, not that of the credentials
                    refusal = error
                    if not self._correct_clock():
                        break
                else:
                    return
        raise refusal

    def _login_with(self, credentials: Credentials, deadline: float) -> None:
        request = self.account.login_request(credentials, self.now_ms())
        sent = self._wall_clock()
        # In one expression: no frame of a traceback may hold the raw answer with its token.
        reply = LoginReply.from_wire(self._send("App/Login", request.to_wire(), "POST", None, None, None, deadline))
        self._set_offset(reply.server_time, sent, self._wall_clock())
        self.account.accepted(credentials, reply)
        if not reply.token:
            raise _NotEnabledError(403, "the application is not enabled on the server")
        self._token = Secret(reply.token)
        self._token_works = False

    def _correct_clock(self) -> bool:
        """A salt of a wrong clock is refused: take the server's clock from its Date header. False when it was right."""
        date = self._transport.last_date if self._transport is not None else None
        if date is None:
            return False
        offset = int((date - self._wall_clock()) * 1000)
        if abs(offset - self.clock_offset_ms) < _CLOCK_TOLERANCE_MS:
            return False
        self.clock_offset_ms = offset
        return True

    def _set_offset(self, server_time: int, sent: float, received: float) -> None:
        if _PLAUSIBLE_MS[0] < server_time < _PLAUSIBLE_MS[1]:
            self.clock_offset_ms = server_time - int((sent + received) * 500)

    def _ping(self, deadline: float) -> None:
        if self._metrics is None:
            from stardust_auto.session.metrics import ProcessMetrics

            self._metrics = ProcessMetrics(self.account.version)
        info = self._metrics.sample(self.now_ms())
        sent = self._wall_clock()
        reply = PingReply.from_wire(self._send("App/Ping", info.to_wire(), "POST", None, None, None, deadline))
        self._set_offset(reply.server_time, sent, self._wall_clock())
        if reply.period > 0:
            self.period = min(reply.period, 3600)
        if reply.token:
            self._token = Secret(reply.token)
        self.last_ping = self._clock()
        self._succeeded()
        if reply.commands:
            self.on_commands(reply.commands)

    def _send(
        self,
        path: str,
        body: object,
        method: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str | None,
        deadline: float,
        *,
        repeatable: bool = True,
    ) -> Any:
        from stardust_auto.transport.http import Request, Transport, own_user_agent

        if self._transport is None:
            self._transport = Transport(self.servers, own_user_agent())
        if body is not None:
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
                "utf-8", "replace"
            )
            content_type = "application/json"
        request = Request(method, path, data, content_type, params, repeatable)
        left = deadline - self._clock()
        if left <= 0:
            raise UnavailableError("no time left for the call")
        token = None if path == "App/Login" else self._token
        try:
            reply = self._transport.call(request, token, left, self.account.secrets)
        except UnavailableError as error:
            if error.may_have_arrived and path not in _OWN_CALLS:
                self.on_doubt()  # one slow call is no lost server: the heartbeat finds out
            else:
                self._failed(error)
            raise
        if token is not None:
            self._token_works = True
            if self.state is State.LOST:
                self._succeeded()
        return reply.data

    def _token_at_fault(self, error: ApiError, *, ping: bool) -> bool:
        # 500: a token that is no base64 (§12.2). One that has worked is not the reason.
        return error.code == 401 or (ping and error.code == 403) or (error.code == 500 and not self._token_works)

    def _await_turn(self) -> None:
        if self.state is State.STOPPED:
            raise UnavailableError("the session is stopped")
        if self._failures and self.wait > 0:
            raise UnavailableError(f"{self.state.value}, next attempt in {self.wait:.0f} s: {self.last_error}")

    def _failed(self, error: StardustError) -> None:
        if self.deadline is not None:
            return  # what does not get through while we stop is no news of the server
        self._failures += 1
        longest = _REFUSED_LIMIT if isinstance(error, ApiError) else _BACKOFF_LIMIT
        limit = min(longest, _BACKOFF_FIRST * 2 ** min(self._failures - 1, 10))
        delay = max(0.5, self._uniform(0.0, limit))
        retry_after = error.retry_after if isinstance(error, UnavailableError) else None
        self._next_attempt = self._clock() + (retry_after or delay)
        self.last_error = str(error)
        self._set_state(State.REFUSED if isinstance(error, ApiError) else State.LOST, self.last_error)
        self.on_failed(self.wait)

    def _succeeded(self) -> None:
        if self.state is State.STOPPED:
            return  # a call that hung while we stopped came through after all
        self._failures = 0
        self._next_attempt = 0.0
        self._set_state(State.ONLINE, None)

    def _set_state(self, state: State, detail: str | None) -> None:
        before, self.state = self.state, state
        server = self.servers.active.url
        if state is before:
            if state is State.ONLINE and server != self._announced_server:
                self._announced_server = server
                logger.info("now using %s", server)
            return
        since, self._changed = self._changed, self._clock()
        if state is State.ONLINE:
            self._announced_server = server
            if before is State.NEW:
                logger.info("connected to %s as %s (%s)", server, self.account.app_id, self.account.client_id)
            else:
                logger.info("%s is back after %.0f s", server, self._changed - since)
            self.on_online(before is not State.NEW)
        elif state is State.LOST:
            logger.warning("%s cannot be reached: %s; trying again in the background", server, detail, extra=STATE)
        elif state is State.REFUSED:
            logger.warning("%s refuses application %s: %s", server, self.account.app_id, detail, extra=STATE)

    def _clock_deadline(self, timeout: float) -> float:
        deadline = self._clock() + timeout
        return deadline if self.deadline is None else min(deadline, self.deadline)

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, deadline - self._clock())):
            raise UnavailableError("another call is still running")
        try:
            yield
        finally:
            lock.release()
