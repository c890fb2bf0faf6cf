"""The stock service: a second process, a plain WSGI application under wsgiref, with SQLite and redis.

    POST /items/<name>/reserve?quantity=2    200 {"left": 7}, or 409 when there are not enough
    POST /items/<name>/deliver?quantity=9    200 {"left": 16}

It prints one line with its address when it listens, and ends when its standard input is closed: so it also ends, and
in good order, when the shop that started it is gone.
"""

import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

import redis

ITEMS = {"chair": 12, "kettle": 25, "lamp": 40, "rug": 8}

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Stock:
    """The WSGI application."""

    def __init__(self, database: Path, cache: redis.Redis) -> None:
        self._database = database
        self._cache = cache
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE items (name TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0))")
            connection.executemany("INSERT INTO items VALUES (?, ?)", ITEMS.items())

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"].strip("/").split("/"):
            case ["items", name, "reserve" | "deliver" as action] if name in ITEMS:
                quantity = int(parse_qs(environ["QUERY_STRING"]).get("quantity", ["1"])[0])
                status, answer = self._move(name, -quantity if action == "reserve" else quantity)
            case _:
                status, answer = "404 Not Found", {"error": "no such item"}
        body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _move(self, name: str, pieces: int) -> tuple[str, dict[str, object]]:
        try:
            with closing(sqlite3.connect(self._database)) as connection, connection:
                connection.execute("UPDATE items SET pieces = pieces + ? WHERE name = ?", (pieces, name))
                (left,) = connection.execute("SELECT pieces FROM items WHERE name = ?", (name,)).fetchone()
        except sqlite3.IntegrityError:  # the CHECK: there are not enough pieces
            return "409 Conflict", {"error": "sold out"}
        self._cache.set(f"stock:left:{name}", left)
        return "200 OK", {"left": left}


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """No line per request."""


def main() -> int:
    cache = redis.Redis.from_url(os.environ["SHOP_REDIS_URL"])
    with tempfile.TemporaryDirectory(prefix="stock-") as folder:
        server = make_server("127.0.0.1", 0, Stock(Path(folder, "stock.db"), cache), handler_class=_Quiet)
        worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        worker.start()
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        sys.stdin.read()  # returns when the shop closes our standard input, or has died
        server.shutdown()
        worker.join()
        server.server_close()
    cache.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
