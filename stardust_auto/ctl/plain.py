"""``install``, ``uninstall`` and ``doctor`` with the core package alone: an image that is only traced needs no Typer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from stardust_auto.ctl import doctor, install

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Commands that need nothing but the core package.
COMMANDS = ("install", "uninstall", "doctor")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stardustctl",
        description="Command line of a Stardust platform, with the core package alone.",
        epilog="The other commands need the extra: pip install 'stardust-auto[local]'",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("install", help="activate this environment without a launcher")
    one.add_argument("--sitecustomize", action="store_true", help="write a sitecustomize.py instead of a .pth file")
    one.add_argument("--json", action="store_true", help="print JSON for programs")
    one = commands.add_parser("uninstall", help="remove the files of 'install'")
    one.add_argument("--json", action="store_true", help="print JSON for programs")
    one = commands.add_parser("doctor", help="would a program be traced and configured here, and if not, why not")
    for name in ("server", "app", "scope"):
        one.add_argument(f"--{name}")
    one.add_argument("--pid", type=int, help="examine a running process")
    one.add_argument("--json", action="store_true", help="print JSON for programs")
    one.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command; it is not run")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run one of ``COMMANDS``; returns the exit code.

    Raises:
        CtlError: the command failed.
        SystemExit: the command line cannot be used.
    """
    options = _parser().parse_args(argv)
    if options.command == "install":
        install.install(sitecustomize=options.sitecustomize, json_output=options.json)
    elif options.command == "uninstall":
        install.uninstall(json_output=options.json)
    else:
        words = options.words[1:] if options.words[:1] == ["--"] else options.words
        return doctor.doctor(
            words,
            server=options.server,
            app=options.app,
            scope=options.scope,
            pid=options.pid,
            json_output=options.json,
        )
    return 0
