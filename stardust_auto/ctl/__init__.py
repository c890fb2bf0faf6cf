"""stardustctl: the command line of a Stardust platform (Typer and Rich, extra ``local``; three commands do without).

Exit codes: 0 done; 1 a check failed or the server refused; 2 wrong usage or setting; 3 the server cannot be reached;
4 not permitted (no administrator key, or a wrong one, or wrong credentials of the application).
"""

from __future__ import annotations

import io
import os
import sys

__all__ = ["main"]

#: What the extra ``local`` brings; anything else that is missing is a defect and keeps its traceback.
_EXTRA = frozenset({"jinja2", "jwt", "rich", "starlette", "typer", "uvicorn"})


def main() -> int:
    """Run ``stardustctl`` on ``sys.argv``; returns the exit code.

    Our own calls make no spans, also where this process is instrumented by the environment it was started in.
    """
    from stardust_auto.errors import StardustError
    from stardust_auto.process.context import suppressed

    words = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    _settle_output()
    try:
        with suppressed():
            return _run()
    except StardustError as error:
        return _fail(error, words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone ('stardustctl traces | head'): nothing can be told, nothing needs to be.
        sys.stdout = None  # the interpreter must not flush into the closed pipe again
        return 141


def _run() -> int:
    if sys.argv[1:] == ["--version"]:
        from stardust_auto import __version__

        sys.stdout.write(f"stardustctl {__version__}\n")
        return 0
    try:
        from stardust_auto.ctl.app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        from stardust_auto.ctl import plain

        if (sys.argv[1:2] and sys.argv[1] in plain.COMMANDS) or {"-h", "--help"} & set(sys.argv[1:2]):
            return plain.run(sys.argv[1:])
        sys.stderr.write(
            f"stardustctl: the module {missing!r} is missing; install it with: pip install 'stardust-auto[local]' "
            f"(without it there are: {', '.join(plain.COMMANDS)})\n"
        )
        return 2
    app()
    return 0


def _fail(error: Exception, words: list[str]) -> int:
    from stardust_auto.ctl.errors import CtlError
    from stardust_auto.ctl.output import complain, emit_json
    from stardust_auto.errors import ConfigError, InvalidSettingsError

    if not isinstance(error, (CtlError, ConfigError)):
        raise error
    code = error.exit_code if isinstance(error, CtlError) else CtlError.exit_code
    text = (
        f"{error.title} refuses these values: {error.one_line()}"
        if isinstance(error, InvalidSettingsError)
        else str(error)
    )
    if "--json" in words:
        emit_json({"error": text, "exit_code": code})
    else:
        complain(text)
    return code


def _settle_output() -> None:
    """Closed streams swallow what is written, and a character that the terminal's encoding lacks is shown escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
