"""The platform's own exporter: one gzip to /Trace/ReportRaw each period (protocol.md §3, §12.2; docs/reliability.md).

What no server takes waits without its samples. Waiting periods are merged when memory runs short.
The counts of an operation stay exact; their resolution in time becomes coarser, up to an hour.

One module of more than 400 lines: what is written and what each answer means decide together whether it is sent again.
"""

from __future__ import annotations

import gzip
import json
import secrets
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stardust_auto.errors import ApiError, BadReplyError, UnavailableError
from stardust_auto.export.collector import ExportCounts
from stardust_auto.export.queue import MAX_QUEUED_BUILDERS, MEMBERS, Period, PeriodQueue, Total
from stardust_auto.log import get_logger
from stardust_auto.process import fork
from stardust_auto.process.backoff import Backoff
from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.wire.features import MICROSECONDS
from stardust_auto.wire.messages import TraceReply, TraceReport, write_builder, write_sample
from stardust_auto.wire.text import TAG_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stardust_auto.process.clock import Clock
    from stardust_auto.session.session import Session
    from stardust_auto.tracing.builder import Sample, SpanBuilder

logger = get_logger(__name__)

#: Each new name becomes a row on the server: 2000 of them took it 5.7 s.
MAX_BUILDERS: Final = 500
#: Characters of JSON in one body. At three bytes each this is 12 MB before compression; the server takes 30 MB.
MAX_JSON: Final = 4 << 20
#: Characters of samples of one builder.
MAX_SAMPLES_JSON: Final = 1 << 20
#: The server drops builders that are older than three days or a day ahead, without a word.
MAX_AGE_MS: Final = 3 * 86_400_000 - 3_600_000
MAX_AHEAD_MS: Final = 86_400_000 - 3_600_000
#: Names that a server may exclude: each is compared with every new operation.
MAX_EXCLUDES: Final = 1000
#: Requests sent in one go before other tasks have their turn.
_BURST: Final = 50
#: Batches whose answer was lost.
_MAX_UNANSWERED: Final = 100
#: A clock that is further off than this is corrected in what we send, in milliseconds.
_CLOCK_TOLERANCE_MS: Final = 1000
#: Seconds for one call while nobody waits for it.
_CALL_SECONDS: Final = 15.0
_PATH: Final = "Trace/ReportRaw"


class _Batch:
    """What travels in one request. It keeps its id and its content when the answer is lost."""

    __slots__ = ("id", "totals")

    def __init__(self) -> None:
        self.id = secrets.token_hex(16)
        self.totals: list[Total] = []


class _Outcome(NamedTuple):
    """What became of a batch. ``is_done``: it does not wait any more. ``pause``: send nothing more for now."""

    is_done: bool
    pause: bool = False
    retry_after: float | None = None


class StardustExporter:
    """A task of its session, which wakes it when the server is back.

    Args:
        session: where to send to.
        apply: gets the policy that a server answers with, when it has changed.
        clock: decides about ages and the back-off.
    """

    name = "stardust"

    def __init__(
        self,
        session: Session,
        apply: Callable[[TracePolicy], None],
        *,
        max_queue: int = MAX_QUEUED_BUILDERS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._session = session
        self._max_queue = max_queue
        self._apply = apply
        self._clock = clock
        self.reset_after_fork()
        fork.register(self)

    def reset_after_fork(self) -> None:
        """A forked child never sends what its parent has queued."""
        self._lock = threading.Lock()
        self._waiting = PeriodQueue(self._max_queue)
        #: Batches whose answer was lost, for a server that keeps each batch once.
        self._unanswered: deque[_Batch] = deque()
        self._spans = 0
        self._reported = 0
        self._batches = 0
        self._trimmed = 0
        self._dropped: Counter[str] = Counter()
        self._logged: set[str] = set()
        self._policy: TracePolicy | None = None
        self._backoff = Backoff(5.0, 60.0, jitter=1.0)
        self._not_before = 0.0
        self._max_builders = MAX_BUILDERS
        #: The server has echoed a batch id: it keeps each batch once, so a batch may be sent again.
        self._keeps_once = False

    @property
    def counts(self) -> ExportCounts:
        """What was sent, what waits, and what was dropped for which reason (docs/reliability.md)."""
        return ExportCounts(self._reported, self._spans, dict(self._dropped), self._batches, self._trimmed)

    def start(self) -> None:
        """Send in the background from now on."""
        self._session.add_task(self)
        self._session.start()

    def stop(self) -> None:
        """Send nothing in the background any more."""
        self._session.remove_task(self)

    def take(self, builders: Sequence[SpanBuilder]) -> None:
        """Keep a period, and send it soon."""
        with self._lock:
            self._keep(builders)
        self._session.wake(self)

    def run(self) -> float | None:
        """Send what waits, unless the last attempt failed a moment ago."""
        wait = self._not_before - self._clock.monotonic()
        if wait > 0:
            self._waiting.forget_samples()
            return wait
        with self._lock:
            return self._send_all(_BURST, None)

    def flush(self, deadline: float) -> None:
        """Send everything there is, as far as it goes before ``deadline``, whatever the back-off says."""
        if not self._lock.acquire(timeout=max(0.0, deadline - self._clock.monotonic())):
            return
        try:
            while self._clock.monotonic() < deadline and self._send_all(_BURST, deadline) == 0.0:
                continue
        finally:
            self._lock.release()

    def finish(self, deadline: float) -> None:
        """The session stops."""
        self.flush(deadline)

    # -- what waits --------------------------------------------------------------------------------------------------

    def _keep(self, builders: Sequence[SpanBuilder]) -> None:
        self._waiting.forget_samples()
        connection = self._session.connection
        offset = connection.clock_offset_ms
        # Before the first login nobody knows what the server can do; a StarServer ignores the members.
        precise = connection.token is None or MICROSECONDS in connection.features
        shift = offset if abs(offset) >= _CLOCK_TOLERANCE_MS else 0
        period = Period()
        for builder in builders:
            try:
                total = Total(*(write_builder(builder, shift)[member] for member in MEMBERS))
                samples = self._written_samples(builder, shift, precise)
            except Exception as error:  # noqa: BLE001 - one odd value of the program must not cost the whole period
                self._drop("faulty", _total_of(builder), f"{type(error).__name__} in a value of the program")
                continue
            if not total.name:
                self._dropped["unnamed"] += total.total
                continue
            self._spans += total.total
            if total.name not in period.totals and samples:
                period.samples[total.name] = samples
            period.add((total,))
        if period.totals:
            self._give_up(self._waiting.add(period), "queue_full")

    def _written_samples(self, builder: SpanBuilder, shift: int, precise: bool) -> str:
        """Both lists as JSON members; errors first when there is not room for all."""
        left = MAX_SAMPLES_JSON
        lists: dict[str, str] = {}
        kinds: tuple[tuple[str, Sequence[Sample]], ...]
        kinds = (("ErrorSamples", builder.error_samples), ("Samples", builder.samples))
        for name, samples in kinds:
            written: list[str] = []
            for sample in samples:
                text = self._written_sample(sample, shift, precise)
                if text is None or len(text) > left:
                    self._trimmed += 1
                    continue
                left -= len(text)
                written.append(text)
            if written:
                lists[name] = ",".join(written)
        return "".join(f',"{name}":[{lists[name]}]' for name in ("Samples", "ErrorSamples") if name in lists)

    @staticmethod
    def _written_sample(sample: Sample, shift: int, precise: bool) -> str | None:
        try:
            return _dumps(write_sample(sample, shift, precise=precise))
        except Exception:  # noqa: BLE001 - a sample of an odd value is left out; its call counts
            return None

    def _give_up(self, totals: Iterable[Total], reason: str, detail: str = "") -> None:
        count = sum(total.total for total in totals)
        if not count:
            return
        self._spans -= count
        if detail:
            self._drop(reason, count, detail)
        else:
            self._dropped[reason] += count

    def _drop(self, reason: str, count: int, detail: str) -> None:
        self._dropped[reason] += count
        self._log_once(reason, f"{count} spans not reported ({reason}): {detail}; further losses are only counted")

    def _log_once(self, topic: str, text: str) -> None:
        if topic not in self._logged:
            self._logged.add(topic)
            logger.warning("%s", text)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send_all(self, limit: int, deadline: float | None) -> float | None:
        """Send at most ``limit`` batches: the newest period, which has samples, then the oldest.

        Returns:
            Seconds until there is more to do: 0.0 for more to send at once, ``None`` when the session or the next period will wake us.
        """
        for _ in range(limit):
            newest = self._waiting.newest
            if newest is not None and newest.samples:
                outcome = self._send_part(newest, deadline)
            elif self._unanswered:
                batch = self._unanswered[0]
                outcome = self._post(batch, None, deadline)
                if outcome.is_done:
                    self._unanswered.popleft()
            elif self._waiting.oldest is not None:
                outcome = self._send_part(self._waiting.oldest, deadline)
            else:
                return None
            if outcome.pause:
                return self._pause(outcome.retry_after)
        self._not_before = 0.0
        return 0.0

    def _pause(self, retry_after: float | None) -> float | None:
        self._waiting.forget_samples()
        if not self._session.connection.online:
            return None  # it has a back-off of its own, and wakes its tasks afterwards
        wait = self._backoff.failed(at_least=retry_after)
        self._not_before = self._clock.monotonic() + wait
        return wait

    def _send_part(self, period: Period, deadline: float | None) -> _Outcome:
        """Send as much of ``period`` as one request takes."""
        now = self._clock.wall_ns() // 1_000_000 + self._session.connection.clock_offset_ms
        batch = _Batch()
        size = 0
        for total in list(period.totals.values()):
            if not now - MAX_AGE_MS <= total.start <= now + MAX_AHEAD_MS:
                self._waiting.remove((total,), period)
                self._give_up((total,), "too_old")
                continue
            size += len(period.samples.get(total.name, "")) + 250
            if batch.totals and (len(batch.totals) >= self._max_builders or size > MAX_JSON):
                break
            batch.totals.append(total)
        outcome = self._post(batch, period, deadline) if batch.totals else _Outcome(is_done=True)
        if outcome.is_done:
            self._waiting.remove(batch.totals, period)
        return outcome

    def _post(self, batch: _Batch, period: Period | None, deadline: float | None) -> _Outcome:
        """Send ``batch``, with the samples of ``period``; ``None`` for one that was sent before."""
        seconds = _CALL_SECONDS if deadline is None else max(0.0, deadline - self._clock.monotonic())
        try:
            data = self._session.call(
                _PATH,
                data=gzip.compress(self._body(batch, period), 6, mtime=0),
                content_type="application/x-gzip",
                timeout=min(seconds, _CALL_SECONDS),
                repeatable=self._keeps_once,
            )
        except UnavailableError as error:
            if not error.may_have_arrived:
                return _Outcome(is_done=False, pause=True, retry_after=error.retry_after)
            return self._answer_lost(batch, period, "reply_lost", error)
        except BadReplyError as error:
            if error.status == 413:
                return self._too_large(batch, period)
            if not error.may_have_arrived:
                return _Outcome(is_done=False, pause=True)
            return self._answer_lost(batch, period, "bad_reply", error)
        except ApiError as error:
            if error.code in (401, 403):
                return _Outcome(is_done=False, pause=True)
            self._give_up(batch.totals, "refused", str(error))
            return _Outcome(is_done=True)
        except Exception as error:  # noqa: BLE001 - memory, imports, psutil: nothing was sent, so it is kept
            self._log_once("fault", f"a report could not be sent: {type(error).__name__}: {error}")
            return _Outcome(is_done=False, pause=True)
        if data is None:
            return self._not_stored(batch, period)
        if not isinstance(data, dict):
            return self._answer_lost(
                batch, period, "bad_reply", BadReplyError("the server answered a report without settings")
            )
        self._accept(batch, data)
        return _Outcome(is_done=True)

    def _accept(self, batch: _Batch, data: object) -> None:
        self._backoff.succeeded()
        count = sum(total.total for total in batch.totals)
        self._spans -= count
        self._reported += count
        self._batches += 1
        reply = TraceReply.from_wire(data)
        self._keeps_once = reply.batch_id == batch.id
        policy = _policy(reply)
        if policy == self._policy:
            return  # the excludes are compiled for each policy that is applied
        try:
            self._apply(policy)
            self._policy = policy
        except Exception as error:  # noqa: BLE001 - the report has arrived; whoever applies the policy is at fault
            self._log_once("policy", f"the server's policy could not be applied: {type(error).__name__}: {error}")

    def _answer_lost(self, batch: _Batch, period: Period | None, reason: str, error: Exception) -> _Outcome:
        """The server may have stored it. One that keeps each batch once gets it again; another one would count it twice."""
        if not self._keeps_once:
            self._give_up(batch.totals, reason, str(error))
        elif period is not None:
            self._unanswered.append(batch)
            if len(self._unanswered) > _MAX_UNANSWERED:
                self._give_up(self._unanswered.popleft().totals, reason, str(error))
        else:
            return _Outcome(is_done=False, pause=True)
        return _Outcome(is_done=True, pause=True)  # the next answer would be lost in the same way

    def _not_stored(self, batch: _Batch, period: Period | None) -> _Outcome:
        """The server accepted nothing. The samples may be the reason, so it gets the counts alone once."""
        if period is not None and not period.was_refused:
            period.was_refused, period.samples = True, {}
            return _Outcome(is_done=False)
        self._give_up(batch.totals, "not_stored", "the server answered without data")
        return _Outcome(is_done=True)

    def _too_large(self, batch: _Batch, period: Period | None) -> _Outcome:
        """A proxy has a smaller limit than the server: leave the samples out, then send fewer builders at a time."""
        if period is None or (not period.samples and len(batch.totals) == 1):
            self._give_up(batch.totals, "too_large", "HTTP 413")
            return _Outcome(is_done=True)
        if not period.samples:
            self._max_builders = max(1, len(batch.totals) // 2)
        period.samples = {}
        return _Outcome(is_done=False)

    def _body(self, batch: _Batch, period: Period | None) -> bytes:
        account = self._session.account
        head = TraceReport(
            app_id=account.app_id,
            app_name=account.app_name,
            client_id=account.client_id,
            version=account.version,  # a server sends its excludes only in reply to a version
            batch_id=batch.id,
        )
        samples = period.samples if period is not None else {}
        builders = ",".join(_dumps(total.to_wire())[:-1] + samples.get(total.name, "") + "}" for total in batch.totals)
        return f'{_dumps(head.to_wire())[:-1]},"Builders":[{builders}]}}'.encode()


def _policy(reply: TraceReply) -> TracePolicy:
    """What the tracer applies. Zero means "not said"; the bounds keep a hostile server from filling our memory."""
    return TracePolicy(
        period=_within(reply.period, 1, 3600),
        max_samples=_within(reply.max_samples, 1, 1000),
        max_errors=_within(reply.max_errors, 1, 1000),
        timeout=_within(reply.timeout, 1, 3_600_000),
        max_tag_length=_within(reply.max_tag_length, 1, TAG_LIMIT),
        request_tag_length=min(reply.request_tag_length, TAG_LIMIT) if reply.request_tag_length else None,
        enable_meter=reply.enable_meter,
        excludes=(reply.excludes or ())[:MAX_EXCLUDES],
    )


def _within(value: int, low: int, high: int) -> int | None:
    return max(low, min(value, high)) if value > 0 else None


def _total_of(builder: SpanBuilder) -> int:
    return builder.total if type(builder.total) is int else 0


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
