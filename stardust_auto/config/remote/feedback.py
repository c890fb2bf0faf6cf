"""Tells the center what became of the configuration: with each Ping where the server lists that it reads it, else as events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stardust_auto.config.remote.verdicts import Summary
from stardust_auto.wire.features import CONFIG_VERDICTS
from stardust_auto.wire.messages import AppInfo, ConfigVerdict

if TYPE_CHECKING:
    from stardust_auto.session.session import Session


class Feedback:
    """What one client has told the center."""

    def __init__(self) -> None:
        self._told: Summary | None = None

    def reset_after_fork(self) -> None:
        """The child is another instance, of which the center knows nothing."""
        self._told = None

    def attach(self, session: Session) -> None:
        """Take part in the Pings of ``session``."""
        if self._complete not in session.connection.ping_parts:
            session.connection.ping_parts.append(self._complete)

    def detach(self, session: Session) -> None:
        """Undo :meth:`attach`."""
        if self._complete in session.connection.ping_parts:
            session.connection.ping_parts.remove(self._complete)
        self._told = None

    def tell(self, session: Session, summary: Summary) -> None:
        """Tell the center of ``summary``, unless it has been told. Return at once: the session's thread sends it."""
        if summary == self._told:
            return
        before, self._told = self._told or Summary(), summary
        if CONFIG_VERDICTS in session.connection.features:
            session.heartbeat.check()
            return
        # A StarServer shows events in the application's history (protocol.md §12.8).
        if summary.refused and (summary.refused, summary.reason) != (before.refused, before.reason):
            kept = f"v{summary.version} stays" if summary.version else "there is nothing valid before it"
            text = f"{summary.label} v{summary.refused} refused, {kept}: {summary.reason}"
            session.commands.post_event("error", "config-refused", text)
        elif summary.version and (summary.version, summary.restart) != (before.version, before.restart):
            waiting = f", after a restart: {', '.join(summary.restart)}" if summary.restart else ""
            session.commands.post_event("info", "config-applied", f"{summary.label} v{summary.version} in use{waiting}")

    def _complete(self, info: AppInfo, features: frozenset[str]) -> AppInfo:
        """Complete the body of a Ping. Several clients of one session are one instance for the server."""
        summary = self._told
        if summary is None or CONFIG_VERDICTS not in features:
            return info
        other = info.config
        if other is not None:
            restart = tuple((other.restart or "").split(",")) if other.restart else ()
            summary = Summary(other.version, other.refused, other.reason or "", restart).merged(summary)
        config = ConfigVerdict(summary.version, summary.refused, summary.reason, ",".join(summary.restart))
        return replace(info, config=config)
