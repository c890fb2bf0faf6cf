"""Sends what the tracer counted: once a period, as gzip to /Trace/ReportRaw (protocol.md §3, §12.2; docs/reliability.md)."""

from __future__ import annotations

import gzip
import json
import secrets
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.errors import ApiError, BadReplyError, UnavailableError
from stardust_auto.log import get_logger
from stardust_auto.process.clock import monotonic, wall_time
from stardust_auto.process.fork import after_fork_in_child
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.wire.messages import TraceReply, TraceReport, write_builder, write_sample
from stardust_auto.wire.text import TAG_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stardust_auto.session.session import Session
    from stardust_auto.tracing.builder import Sample, SpanBuilder

logger = get_logger(__name__)

#: Seconds from the first span of a process to its first report.
FIRST_FLUSH: Final = 5.0
#: Each new name becomes a row on the server: 2000 of them took it 5.7 s.
MAX_BUILDERS: Final = 500
#: Characters of JSON in one body. At three bytes each this is 12 MB before compression; the server takes 30 MB.
MAX_JSON: Final = 4 << 20
#: Characters of samples of one builder.
MAX_SAMPLES_JSON: Final = 1 << 20
#: Builders kept while no server answers, about 250 bytes each, and the batches that they come in.
MAX_QUEUED_BUILDERS: Final = 20_000
MAX_QUEUED_BATCHES: Final = 2880
#: The server drops builders that are older than three days or a day ahead, without a word.
MAX_AGE_MS: Final = 3 * 86_400_000 - 3_600_000
MAX_AHEAD_MS: Final = 86_400_000 - 3_600_000
#: Batches sent in one go before other tasks have their turn.
_BURST: Final = 50
#: A clock that is further off than this is corrected in what we send, in milliseconds.
_CLOCK_TOLERANCE: Final = 1000


@dataclass(frozen=True, slots=True)
class ReportCounts:
    """Counts of spans. ``dropped`` by reason: queue_full, too_old, reply_lost, refused, bad_reply, not_stored, unnamed."""

    reported: int
    queued: int
    dropped: Mapping[str, int]
    batches: int
    samples_trimmed: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One builder as JSON without samples, open at its end."""

    head: str
    total: int
    start_time: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """Builders that travel together under one id; the samples are sent with the first attempt only."""

    id: str
    entries: tuple[_Entry, ...]

    @property
    def total(self) -> int:
        return sum(entry.total for entry in self.entries)


class Reporter:
    """A task of the session: takes the builders of a period, sends them, keeps them while no server answers.

    ``take`` hands over the finished builders, ``apply`` gets the server's policy with each answer, ``period`` is the
    current period in seconds.
    """

    name = "reporter"

    def __init__(
        self,
        session: Session,
        take: Callable[[], Sequence[SpanBuilder]],
        apply: Callable[[TracePolicy], None],
        period: Callable[[], float],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._session = session
        self._take = take
        self._apply = apply
        self._period = period
        self._clock = clock
        self._fresh()
        after_fork_in_child(self._fresh)

    def _fresh(self) -> None:
        # A forked child never sends what its parent has queued.
        self._lock = threading.Lock()
        self._queue: deque[_Batch] = deque()
        self._queued_builders = 0
        self._queued_spans = 0
        #: Spans of a report that is being sent for the first time.
        self._under_way = 0
        self._next: float | None = None
        self._reported = 0
        self._batches = 0
        self._trimmed = 0
        self._dropped: Counter[str] = Counter()
        self._said: set[str] = set()
        #: The server has echoed a batch id: it keeps each batch once, so a batch may be sent again.
        self._keeps_once = False

    @property
    def counts(self) -> ReportCounts:
        """What was sent, what waits, and what was dropped for which reason."""
        return ReportCounts(
            self._reported, self._queued_spans + self._under_way, dict(self._dropped), self._batches, self._trimmed
        )

    def start(self) -> None:
        """To be called with the first span of a process: the first report follows five seconds later."""
        if self._next is None:
            self._next = self._clock() + FIRST_FLUSH
        self._session.add_task(self)
        self._session.start()

    def run(self) -> float | None:
        """Send when the period is over; when woken before, only what waits."""
        now = self._clock()
        if self._next is None:
            self._next = now + FIRST_FLUSH
        with self._lock:
            if now >= self._next:
                self._send_fresh()
                self._next = now + max(1.0, float(self._period()))  # which the reply may have changed
            if self._replay(_BURST):
                return 0.05
        return max(0.05, self._next - self._clock())

    def finish(self, deadline: float) -> None:
        """Send everything there is, as far as it goes before ``deadline``."""
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            return
        try:
            self._send_fresh()
            while monotonic() < deadline and self._replay(_BURST):
                continue
        finally:
            self._lock.release()

    def flush(self, timeout: float = 1.0) -> bool:
        """Send everything now, waiting at most ``timeout`` seconds. True when nothing is left."""
        deadline = monotonic() + timeout
        return self._session.run(lambda: self.finish(deadline), timeout) and not self._queue

    def _send_fresh(self) -> None:
        builders = self._take()
        self._under_way = sum(builder.total for builder in builders)
        for batch, parts in self._pack(builders):
            if not self._send(batch, parts):
                self._keep(batch)
            self._under_way -= batch.total
        self._under_way = 0

    def _replay(self, limit: int) -> bool:
        """Send what waits, oldest first, until one fails; True when there is more to send at once."""
        for _ in range(limit):
            if not self._queue:
                return False
            batch = self._queue[0]
            if not self._send(batch, [entry.head + "}" for entry in batch.entries]):
                return False
            self._forget_oldest()
        return bool(self._queue)

    def _keep(self, batch: _Batch) -> None:
        self._queue.append(batch)
        self._queued_builders += len(batch.entries)
        self._queued_spans += batch.total
        while self._queued_builders > MAX_QUEUED_BUILDERS or len(self._queue) > MAX_QUEUED_BATCHES:
            self._dropped["queue_full"] += self._forget_oldest().total

    def _forget_oldest(self) -> _Batch:
        oldest = self._queue.popleft()
        self._queued_builders -= len(oldest.entries)
        self._queued_spans -= oldest.total
        return oldest

    def _pack(self, builders: Sequence[SpanBuilder]) -> Iterator[tuple[_Batch, list[str]]]:
        entries: list[_Entry] = []
        parts: list[str] = []
        size = 0
        offset = self._session.clock_offset_ms
        shift = offset if abs(offset) >= _CLOCK_TOLERANCE else 0
        for builder in builders:
            written = write_builder(builder, shift)
            if not written["Name"]:
                self._dropped["unnamed"] += written["Total"]
                continue
            entry = _Entry(_dumps(written)[:-1], written["Total"], written["StartTime"])
            part = entry.head + self._samples(builder, shift) + "}"
            if entries and (len(entries) >= MAX_BUILDERS or size + len(part) > MAX_JSON):
                yield _Batch(secrets.token_hex(16), tuple(entries)), parts
                entries, parts, size = [], [], 0
            entries.append(entry)
            parts.append(part)
            size += len(part)
        if entries:
            yield _Batch(secrets.token_hex(16), tuple(entries)), parts

    def _samples(self, builder: SpanBuilder, shift: int) -> str:
        """Both lists, errors first when there is not room for all."""
        left = MAX_SAMPLES_JSON
        lists: dict[str, str] = {}
        kinds: tuple[tuple[str, Sequence[Sample]], ...]
        kinds = (("ErrorSamples", builder.error_samples), ("Samples", builder.samples))
        for name, samples in kinds:
            written: list[str] = []
            for sample in samples:
                text = _dumps(write_sample(sample, shift))
                if len(text) > left:
                    self._trimmed += 1
                    continue
                left -= len(text)
                written.append(text)
            if written:
                lists[name] = ",".join(written)
        return "".join(f',"{name}":[{lists[name]}]' for name in ("Samples", "ErrorSamples") if name in lists)

    def _send(self, batch: _Batch, parts: list[str]) -> bool:
        """False when the batch must be kept; sent, refused and dropped batches are done with."""
        kept = self._drop_too_old(batch, parts)
        if not kept:
            return True
        total = sum(entry.total for entry, _ in kept)
        reason = ""
        try:
            data = self._session.call(
                "Trace/ReportRaw",
                data=gzip.compress(self._body(batch.id, [part for _, part in kept]), 6, mtime=0),
                content_type="application/x-gzip",
                repeatable=self._keeps_once,
            )
        except UnavailableError as error:
            if error.may_have_arrived and not self._keeps_once:
                reason, detail = "reply_lost", str(error)
            else:
                return False
        except ApiError as error:
            if error.code in (401, 403):
                return False
            reason, detail = "refused", str(error)
        except BadReplyError as error:
            reason, detail = "bad_reply", str(error)
        else:
            if data is not None:
                self._accept(batch, total, data)
                return True
            reason, detail = "not_stored", "the server answered without data"
        self._drop(reason, total, detail)
        return True

    def _accept(self, batch: _Batch, total: int, data: object) -> None:
        self._reported += total
        self._batches += 1
        reply = TraceReply.from_wire(data)
        self._keeps_once = reply.batch_id == batch.id
        try:
            self._apply(_policy(reply))
        except Exception as error:  # noqa: BLE001 - the report has arrived; whoever applies the policy is at fault
            self._say_once("policy", f"the server's policy could not be applied: {type(error).__name__}: {error}")

    def _drop(self, reason: str, total: int, detail: str) -> None:
        self._dropped[reason] += total
        self._say_once(reason, f"{total} spans not reported ({reason}): {detail}; further losses are only counted")

    def _say_once(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            logger.warning("%s", text)

    def _drop_too_old(self, batch: _Batch, parts: list[str]) -> list[tuple[_Entry, str]]:
        now = int(wall_time() * 1000) + self._session.clock_offset_ms
        kept: list[tuple[_Entry, str]] = []
        for entry, part in zip(batch.entries, parts, strict=True):
            if now - MAX_AGE_MS <= entry.start_time <= now + MAX_AHEAD_MS:
                kept.append((entry, part))
            else:
                self._dropped["too_old"] += entry.total
        return kept

    def _body(self, batch_id: str, parts: list[str]) -> bytes:
        session = self._session
        head = TraceReport(
            app_id=session.app_id,
            app_name=session.app_name,
            client_id=session.client_id,
            version=session.version,  # a server sends its excludes only in reply to a version
            batch_id=batch_id,
        )
        return f'{_dumps(head.to_wire())[:-1]},"Builders":[{",".join(parts)}]}}'.encode()


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
        excludes=reply.excludes or (),
    )


def _within(value: int, low: int, high: int) -> int | None:
    return max(low, min(value, high)) if value > 0 else None


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
