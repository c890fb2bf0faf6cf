"""Login, token and heartbeat of one application on one list of servers (protocol.md §2.2-§2.5, §12).

It knows when to log in again and when to wait, and logs each change of state once. It schedules nothing: it tells its ``events``.

One module of more than 400 lines, since all of it reads and writes one state: token, back-off, clock offset.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from stardust_auto.errors import ApiError, BadReplyError, ServerError, StardustError, UnavailableError
from stardust_auto.log import STATE, get_logger
from stardust_auto.privacy import Secret
from stardust_auto.process.backoff import Backoff
from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.transport.http import HttpClient, Request, json_request, own_user_agent
from stardust_auto.wire.features import OWN_SECRET
from stardust_auto.wire.messages import LoginReply, PingReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stardust_auto.process.clock import Clock
    from stardust_auto.session.account import Account
    from stardust_auto.session.credentials import Credentials
    from stardust_auto.session.metrics import ProcessMetrics
    from stardust_auto.transport.servers import ServerList
    from stardust_auto.wire.messages import AppInfo, Command

logger = get_logger(__name__)

#: For one call, as the platform's own client has it (protocol.md §8.3).
CALL_SECONDS: Final = 15.0
_BACKOFF_SECONDS: Final = (5.0, 30.0)
#: A refusal lasts until somebody does something about it.
_REFUSED_BACKOFF_SECONDS: Final = (5.0, 60.0)
#: A login that did not help against 401 on one path is not repeated for that path so soon.
_USELESS_LOGIN_SECONDS: Final = (60.0, 600.0)
_LEAST_WAIT_SECONDS: Final = 0.5
_DEFAULT_PERIOD_SECONDS: Final = 60
_MAX_PERIOD_SECONDS: Final = 3600
#: 2020 to 2100: what is outside is no time in Unix milliseconds.
_PLAUSIBLE_MS: Final = (1_577_836_800_000, 4_102_444_800_000)
_OWN_CALLS: Final = ("App/Login", "App/Ping", "App/Secret")
#: A clock further off than this is corrected from the HTTP Date header before a login is given up.
_CLOCK_TOLERANCE_MS: Final = 60_000


class ConnectionEvents(Protocol):
    """Who is told when something happens to a connection."""

    def on_online(self, *, again: bool) -> None:
        """The server answers; ``again`` after it was lost or had refused us."""

    def on_failed(self, wait: float) -> None:
        """The next attempt is due in ``wait`` seconds."""

    def on_doubt(self) -> None:
        """One call failed, which says nothing about the others: only a Ping can tell."""

    def on_commands(self, commands: tuple[Command, ...]) -> None:
        """A Ping brought commands."""


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
        self, servers: ServerList, account: Account, events: ConnectionEvents, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.servers = servers
        self.account = account
        self._events = events
        #: Functions that complete the body of each Ping, given what the server lists in ``features``.
        self.ping_parts: list[Callable[[AppInfo, frozenset[str]], AppInfo]] = []
        self._clock = clock
        self._client: HttpClient | None = None
        self.reset()

    def reset(self) -> None:
        """As new. A forked child is another instance with a login of its own, and closes its copies of the sockets."""
        self.account.reset()
        client, self._client = self._client, None
        if client is not None:
            client.close()
        self._lock = threading.RLock()
        self._metrics: ProcessMetrics | None = None
        self._token: Secret | None = None
        self._token_works = False
        self._lost = Backoff(*_BACKOFF_SECONDS, jitter=1.0)
        self._refused = Backoff(*_REFUSED_BACKOFF_SECONDS, jitter=1.0)
        self._useless_logins = Backoff(*_USELESS_LOGIN_SECONDS)
        self._no_login_before = float("-inf")
        self._next_attempt = float("-inf")
        self._changed = self._clock.monotonic()
        self._announced_server: str | None = None
        self.state = State.NEW
        self.last_error: str | None = None
        self.clock_offset_ms = 0
        self.period = self.account.heartbeat or _DEFAULT_PERIOD_SECONDS
        self.last_ping: float | None = None
        #: What the server lists beyond a StarServer (``wire.features``).
        self.features: frozenset[str] = frozenset()
        #: While the session stops: no call may go on after this moment of the monotonic clock.
        self.deadline: float | None = None
        #: The process ends: no Ping, no socket, and one attempt whatever the back-off says.
        self.leaving = False
        self._last_attempt_made = False

    @property
    def online(self) -> bool:
        """Whether the last attempt got through and there is a token."""
        return self.state is State.ONLINE and self._token is not None

    @property
    def token(self) -> Secret | None:
        """The bearer token, for the push socket."""
        return self._token

    @property
    def wait(self) -> float:
        """Seconds until the next attempt is due."""
        return max(0.0, self._next_attempt - self._clock.monotonic())

    @property
    def ping_due_in(self) -> float:
        """Seconds until the next heartbeat."""
        if self.last_ping is None:
            return 0.0
        return max(0.0, self.last_ping + self.period - self._clock.monotonic())

    def now_ms(self) -> int:
        """The server's clock, in Unix milliseconds."""
        return int(self._clock.wall() * 1000) + self.clock_offset_ms

    def use_other_identity(self) -> None:
        """Another instance uses our ClientId: take a new one instead of fighting over the socket (§12.4)."""
        self.account.use_other_client_id()
        self._token = None

    def call(self, request: Request, timeout: float = CALL_SECONDS) -> Any:
        """The ``data`` of one call with our token. Logs in before when needed, and once again when the token is refused.

        Raises:
            ApiError: the server answered with an error code, also after a new login.
            UnavailableError: no server answered in ``timeout`` seconds, or the next attempt is not due yet.
            BadReplyError: what answered does not speak the protocol.
        """
        deadline = self._deadline_in(timeout)
        with self._locked(deadline):
            self._open(deadline)
            try:
                return self._send(request, deadline)
            except ApiError as error:
                if not self._token_at_fault(error) or self._clock.monotonic() < self._no_login_before:
                    raise
            self._token = None
            self._open(deadline)
            try:
                data = self._send(request, deadline)
            except ApiError as error:
                if error.code == 401:  # of this path alone: the Ping after the login was answered
                    self._no_login_before = self._clock.monotonic() + self._useless_logins.failed()
                raise
            self._useless_logins.succeeded()
            return data

    def beat(self) -> None:
        """Log in when needed, and ping.

        Raises:
            StardustError: not reached or refused; ``wait`` says when to come back.
        """
        deadline = self._deadline_in(CALL_SECONDS)
        with self._locked(deadline):
            if self._token is None:
                self._open(deadline)
                return
            self._await_turn()
            try:
                self._ping(deadline)
            except (ApiError, BadReplyError) as error:
                if isinstance(error, BadReplyError) or not (self._token_at_fault(error) or error.code == 403):
                    self._failed(error)
                    raise
            else:
                return
            self._token = None
            self._open(deadline)

    def logout(self, reason: str) -> None:
        """Log out, if the server is there."""
        deadline = self._deadline_in(CALL_SECONDS)
        with self._locked(deadline):
            if self.online:
                params = {"reason": reason or "stop"}
                self._send(Request("GET", "App/Logout", params=params, repeatable=False), deadline)
            self._token = None

    def close(self) -> None:
        """Forget the token and close kept connections."""
        self._token = None
        self._set_state(State.STOPPED, None)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self, deadline: float) -> None:
        self._await_turn()
        if self._token is not None:
            return
        try:
            with self.account.turn(max(0.0, deadline - self._clock.monotonic()) / 2):
                self._login(deadline)
            if self.leaving:
                self.last_ping = self._clock.monotonic()
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
        request = json_request("App/Login", self.account.login_request(credentials, self.now_ms()).to_wire())
        sent = self._clock.wall()
        # In one expression: no frame of a traceback may hold the raw answer with its token.
        reply = LoginReply.from_wire(self._send(request, deadline))
        self._set_offset(reply.server_time, sent, self._clock.wall())
        self.account.accepted(credentials, reply)
        self.features = frozenset(reply.features or ())
        if not reply.token:
            raise _NotEnabledError(403, "the application is not enabled on the server")
        if not _fits_a_header(reply.token):
            raise BadReplyError("the server issued a token that no header can carry")
        self._token = Secret(reply.token)
        self._token_works = False
        if reply.secret and OWN_SECRET in self.features:
            self._keep_own_secret(credentials, deadline)

    def _keep_own_secret(self, credentials: Credentials, deadline: float) -> None:
        """Give the server the configured secret instead of the one that it issued: the other instances have the configured one only."""
        if credentials.secret is None:
            return
        try:
            self._send(json_request("App/Secret", {"Secret": credentials.secret.reveal()}), deadline)
        except ServerError as error:
            logger.debug("the issued secret is used: %s", error)
        else:
            self.account.kept(credentials)

    def _correct_clock(self) -> bool:
        """A salt of a wrong clock is refused: take the server's clock from its Date header. False when it was right."""
        date = self._client.last_date if self._client is not None else None
        if date is None:
            return False
        offset = int((date - self._clock.wall()) * 1000)
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
        for part in tuple(self.ping_parts):
            info = part(info, self.features)
        request = json_request("App/Ping", info.to_wire())
        sent = self._clock.wall()
        reply = PingReply.from_wire(self._send(request, deadline))
        self._set_offset(reply.server_time, sent, self._clock.wall())
        self.features = frozenset(reply.features or ())
        if reply.period > 0 and self.account.heartbeat is None:
            self.period = min(reply.period, _MAX_PERIOD_SECONDS)
        if reply.token and _fits_a_header(reply.token):
            self._token = Secret(reply.token)
        self.last_ping = self._clock.monotonic()
        self._succeeded()
        if reply.commands:
            self._events.on_commands(reply.commands)

    def _send(self, request: Request, deadline: float) -> Any:
        if self._client is None:
            self._client = HttpClient(self.servers, own_user_agent(), self._clock)
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise UnavailableError("no time left for the call")
        own = request.path in _OWN_CALLS
        if own:
            request = replace(request, is_probe=True)
        token = None if request.path == "App/Login" else self._token
        try:
            reply = self._client.call(request, token, left, self.account.secrets)
        except UnavailableError as error:
            if not own and (error.may_have_arrived or error.status):
                self._events.on_doubt()  # one path that is slow or broken is no lost server
            else:
                self._failed(error)
            raise
        if token is not None:
            self._token_works = True
            if self.state is State.LOST:
                self._succeeded()
        return reply.data

    def _token_at_fault(self, error: ApiError) -> bool:
        # 500: a token that is no base64 (§12.2). A token that worked before is not the cause.
        return error.code == 401 or (error.code == 500 and not self._token_works)

    def _await_turn(self) -> None:
        if self.state is State.STOPPED:
            raise UnavailableError("the session is stopped")
        if self.wait <= 0:
            return
        if (self.leaving or self.deadline is not None) and not self._last_attempt_made:
            self._last_attempt_made = True  # the server may be back, and there is no later
            return
        raise UnavailableError(f"{self.state.value}, next attempt in {self.wait:.0f} s: {self.last_error}")

    def _failed(self, error: StardustError) -> None:
        if self.deadline is not None:
            return  # a failure while we stop says nothing about the server
        refused = isinstance(error, ApiError)
        retry_after = error.retry_after if isinstance(error, UnavailableError) else None
        wait = (self._refused if refused else self._lost).failed(at_least=retry_after)
        self._next_attempt = self._clock.monotonic() + max(_LEAST_WAIT_SECONDS, wait)
        self.last_error = str(error)
        self._set_state(State.REFUSED if refused else State.LOST, self.last_error)
        self._events.on_failed(self.wait)

    def _succeeded(self) -> None:
        if self.state is State.STOPPED:
            return  # a call that hung while we stopped came through after all
        self._lost.succeeded()
        self._refused.succeeded()
        self._next_attempt = float("-inf")
        self._set_state(State.ONLINE, None)

    def _set_state(self, state: State, detail: str | None) -> None:
        before, self.state = self.state, state
        server = self.servers.active.url
        if state is before:
            if state is State.ONLINE and server != self._announced_server:
                self._announced_server = server
                logger.info("now using %s", server)
            return
        since, self._changed = self._changed, self._clock.monotonic()
        if state is State.ONLINE:
            self._announced_server = server
            if before is State.NEW:
                logger.info("connected to %s as %s (%s)", server, self.account.app_id, self.account.client_id)
            else:
                logger.info("%s is back after %.0f s", server, self._changed - since)
            self._events.on_online(again=before is not State.NEW)
        elif state is State.LOST:
            logger.warning("%s cannot be reached: %s; trying again in the background", server, detail, extra=STATE)
        elif state is State.REFUSED:
            logger.warning("%s refuses application %s: %s", server, self.account.app_id, detail, extra=STATE)

    def _deadline_in(self, timeout: float) -> float:
        deadline = self._clock.monotonic() + timeout
        return deadline if self.deadline is None else min(deadline, self.deadline)

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, deadline - self._clock.monotonic())):
            raise UnavailableError("another call is still running")
        try:
            yield
        finally:
            lock.release()


def _fits_a_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
