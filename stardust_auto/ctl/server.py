"""``stardustctl server``: the embedded server in the foreground. Its options have one parser, ``server.launch``."""

import typer


def serve(context: typer.Context) -> None:
    """Run the embedded server until it is stopped; 'stardustctl server --help' lists its options."""
    from stardust_auto.server.launch import main

    raise typer.Exit(main(context.args, "stardustctl server"))
