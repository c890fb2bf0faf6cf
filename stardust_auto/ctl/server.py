"""``stardustctl server``: the embedded server in the foreground."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 6600,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of its data.", file_okay=False, show_default=False)
    ] = None,
    period: Annotated[int, typer.Option("--period", min=1, max=3600, help="Seconds between two trace reports.")] = 60,
    max_samples: Annotated[int, typer.Option("--max-samples", min=0, help="Samples of an operation in a period.")] = 1,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Host name that requests may carry.", show_default=False),
    ] = None,
) -> None:
    """Run the embedded server until it is stopped (Ctrl-C or SIGTERM).

    One line with its address on stderr when it accepts connections. Applications register themselves at their first login.
    """
    from stardust_auto.server.__main__ import main

    arguments = ["--host", host, "--port", str(port), "--period", str(period), "--max-samples", str(max_samples)]
    for name in allow_host or ():
        arguments += ["--allow-host", name]
    if data is not None:
        arguments += ["--data", str(data)]
    raise typer.Exit(main(arguments))
