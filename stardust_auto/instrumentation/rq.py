"""rq: its worker forks for each job, and the child exits through ``os._exit`` as soon as the job has been performed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.process import end

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches


def _end_with_the_job(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def perform_job(worker: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(worker, *args, **kwargs)
        finally:
            if getattr(worker, "is_horse", False):  # what rq calls such a child
                end.run()

    return perform_job


def _patch(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.Worker, "perform_job", _end_with_the_job)


INTEGRATION = Integration(name="rq", targets={"rq.worker": _patch}, supports={"rq": (1, 0)})
