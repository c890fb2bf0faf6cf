"""Celery: its worker processes exit through ``os._exit`` without any finalizer, and send a signal before that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.process import end

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches


def _end(**_details: object) -> None:
    end.run()


def _patch(module: ModuleType, _patches: Patches) -> None:
    module.worker_process_shutdown.connect(_end, weak=False, dispatch_uid=__name__)


INTEGRATION = Integration(name="celery", targets={"celery.signals": _patch}, supports={"celery": (5, 0)})
