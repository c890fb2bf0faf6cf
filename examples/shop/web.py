"""The shop's web application (Flask): it keeps orders in SQLite, prices in redis, and asks the stock service.

GET  /                                    the greeting and today's discount
POST /orders?item=lamp&quantity=2         201 with the price, 409 sold out, 422 more than one order may have
POST /deliveries?item=lamp&quantity=20    new pieces for the stock
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import redis
import requests
from flask import Flask, Response, jsonify, request
from settings import Settings

from stardust_auto import Live

#: Euro cents.
PRICES = {"chair": 8900, "kettle": 3450, "lamp": 2200, "rug": 12900}


def create_app(config: Live[Settings], cache: redis.Redis, stock_url: str, database: Path) -> Flask:
    app = Flask(__name__)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE prices (item TEXT PRIMARY KEY, cents INTEGER)")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, quantity INTEGER, cents INTEGER)")
        connection.executemany("INSERT INTO prices VALUES (?, ?)", PRICES.items())

    def price_of(connection: sqlite3.Connection, item: str) -> int:
        kept = cache.get(f"shop:price:{item}")
        if kept is not None:
            return int(kept)
        (cents,) = connection.execute("SELECT cents FROM prices WHERE item = ?", (item,)).fetchone()
        cache.set(f"shop:price:{item}", cents, ex=2)
        return int(cents)

    @app.get("/")
    def welcome() -> Response:
        settings = config.current
        cache.incr("shop:visits")
        return jsonify(greeting=settings.greeting, discount=settings.discount)

    @app.post("/orders")
    def order() -> tuple[Response, int]:
        item, quantity = request.args["item"], int(request.args["quantity"])
        with config.pin() as settings:  # one version of the settings for this order
            if quantity > settings.stock.max_per_order:
                return jsonify(error=f"at most {settings.stock.max_per_order} in one order"), 422
            reply = requests.post(f"{stock_url}/items/{item}/reserve", params={"quantity": quantity}, timeout=5)
            if reply.status_code == 409:
                return jsonify(error="sold out"), 409
            reply.raise_for_status()
            with closing(sqlite3.connect(database)) as connection, connection:
                cents = price_of(connection, item) * quantity * (100 - settings.discount) // 100
                connection.execute(
                    "INSERT INTO orders (item, quantity, cents) VALUES (?, ?, ?)", (item, quantity, cents)
                )
            return jsonify(cents=cents, left=reply.json()["left"]), 201

    @app.post("/deliveries")
    def deliver() -> tuple[Response, int]:
        item, quantity = request.args["item"], int(request.args["quantity"])
        reply = requests.post(f"{stock_url}/items/{item}/deliver", params={"quantity": quantity}, timeout=5)
        reply.raise_for_status()
        return jsonify(reply.json()), 201

    return app
