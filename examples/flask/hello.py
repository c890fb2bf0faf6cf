"""A Flask application with live typed settings; nothing in it is about tracing.

    stardust-auto --local python examples/flask/hello.py

Then open http://127.0.0.1:8000/hello/you, and in a second terminal:

    stardustctl config set --app hello greeting=Bonjour --publish
"""

import argparse
import logging
import sqlite3
from contextlib import closing

from flask import Flask
from pydantic import Field
from werkzeug.serving import make_server

from stardust_auto import StardustConfigDict, StardustSettings, live


class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="HELLO_")

    greeting: str = Field(default="Hello", min_length=1, max_length=20)


config = live(Settings)
app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, object]:
    with closing(sqlite3.connect(":memory:")) as connection:
        (length,) = connection.execute("SELECT length(?)", (name,)).fetchone()
    return {"text": f"{config.current.greeting} {name}", "letters": length}


def main() -> None:
    parser = argparse.ArgumentParser(description="A Flask application with live settings.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", parser.parse_args().port, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}/hello/you", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
