"""stardustctl: the command line of a Stardust platform (Typer + Rich, extra ``local``).

Exit codes: 0 done; 1 a check failed or the server refused; 2 wrong usage or setting; 3 the server cannot be reached;
4 not permitted (no administrator key, or a wrong one, or wrong credentials of the application).
"""

from __future__ import annotations

import sys

__all__ = ["main"]

#: What the extra ``local`` brings; anything else that is missing is a defect and keeps its traceback.
_EXTRA = frozenset({"jinja2", "jwt", "rich", "starlette", "typer", "uvicorn"})


def main() -> int:
    """Run ``stardustctl`` on ``sys.argv``; returns the exit code."""
    try:
        from stardust_auto.ctl.app import run

        return run()
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.stderr.write(
            f"stardustctl: the module {missing!r} is missing; install it with: pip install 'stardust-auto[local]'\n"
        )
        return 2
