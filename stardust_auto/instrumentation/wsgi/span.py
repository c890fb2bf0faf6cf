"""The span of one WSGI request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stardust_auto.instrumentation.kit.inbound import InboundRequest, RequestSpan

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH_DIGITS: Final = 18


def length_of(text: Any) -> int:
    """A ``Content-Length`` as a number, 0 if it is none. ``str.isdigit`` also accepts superscripts, which ``int`` refuses."""
    return int(text[:_LENGTH_DIGITS]) if text and text.isascii() and text.isdigit() else 0


class WsgiSpan(RequestSpan):
    """Takes the place of ``start_response`` by its method :meth:`started`.

    ``complete``: set where a framework knows that its body is not made piece by piece. ``headers``: of the response.
    """

    __slots__ = ("complete", "headers", "start_response")

    complete: bool | None
    headers: Any
    start_response: Callable[..., Any]

    def started(self, *args: Any, **kwargs: Any) -> Any:
        """``start_response``, called with exactly the application's arguments; its ``write`` is the server's own."""
        write = self.start_response(*args, **kwargs)
        self.status = args[0] if args else kwargs.get("status")
        self.headers = args[1] if len(args) > 1 else None
        return write

    def rename(self, route: str) -> None:
        """Take the name of the framework's ``route``, below where the application is mounted."""
        script = self.scope.get("SCRIPT_NAME")
        RequestSpan.rename(self, script + route if script else route)

    def describe(self) -> str:
        """``<client> GET /path?key=?`` and the status line."""
        environ = self.scope
        client, method = environ.get("REMOTE_ADDR", ""), environ.get("REQUEST_METHOD", "")
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        query = str(environ.get("QUERY_STRING") or "")
        return InboundRequest(str(client), str(method), path, query, str(self.status or "")).tag()

    def count_file(self) -> None:
        """Count the bytes of a file that the server sends by itself: those that the application announced."""
        for name, value in self.headers or ():
            if name.lower() == "content-length":
                self.value += length_of(value)
