"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from typing import Annotated

import typer

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Address of the server. Else STARDUST_SERVER, else the embedded server of this folder (.stardust/).",
        show_default=False,
    ),
]
App = Annotated[
    str | None,
    typer.Option("--app", metavar="NAME", help="Application. Else STARDUST_APP_ID.", show_default=False),
]
Scope = Annotated[
    str | None,
    typer.Option("--scope", metavar="SCOPE", help="Scope (dev, test...). Else STARDUST_SCOPE.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SettingsClass = Annotated[
    str,
    typer.Argument(
        metavar="SETTINGS",
        help="The settings class of the program: pkg.mod:Settings or path/to/file.py:Settings.",
        show_default=False,
    ),
]
CheckedBy = Annotated[
    str | None,
    typer.Option(
        "--settings",
        metavar="SETTINGS",
        help="Publish only if this settings class accepts it: pkg.mod:Settings or path/to/file.py:Settings.",
        show_default=False,
    ),
]
OptionalSettingsClass = Annotated[
    str | None,
    typer.Argument(
        metavar="[SETTINGS]",
        help="The settings class of the program: pkg.mod:Settings or path/to/file.py:Settings.",
        show_default=False,
    ),
]
