"""uWSGI, which forks its workers from C, without Python's hooks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.process import fork

if TYPE_CHECKING:
    from collections.abc import Callable

#: Version from which on threads run without being asked for; 2.0.21 is known to need the option, 2.0.27 not to.
_WITH_THREADS: Final = (2, 0, 27)
#: What uWSGI called after its forks before us; ``None`` until we have looked.
_hooks: list[Callable[[], object]] | None = None


def follow_forks() -> None:
    """Reset the master's state in each worker of uWSGI. Idempotent."""
    global _hooks
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or getattr(uwsgi, "post_fork_hook", None) is _after_fork:
        return
    if _hooks is None:
        from wrapt import register_post_import_hook

        _hooks = []
        _check_threads(uwsgi)
        # uwsgidecorators puts its own hook in the place of whatever is there.
        register_post_import_hook(lambda _module: follow_forks(), "uwsgidecorators")
    previous = getattr(uwsgi, "post_fork_hook", None)
    if previous is not None:
        _hooks.append(previous)
    uwsgi.post_fork_hook = _after_fork


def _check_threads(uwsgi: Any) -> None:
    """Warn, once, of a uWSGI that does not let threads run: such a worker reports only when it ends."""
    import logging
    import re

    from stardust_auto.log import get_logger, tell

    version = tuple(int(number) for number in re.findall(rb"\d+", uwsgi.version)[:3])
    if version < _WITH_THREADS and not {"enable-threads", "threads"} & set(uwsgi.opt) and uwsgi.worker_id() <= 1:
        tell(
            get_logger(__name__),
            logging.WARNING,
            "stardust-auto: uWSGI runs without --enable-threads: its workers report only when they end (add that option)",
        )


def _after_fork() -> None:
    fork.run_in_child()
    for hook in _hooks or ():
        hook()
