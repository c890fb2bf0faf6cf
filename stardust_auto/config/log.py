"""The one logger of the package. The application decides where its lines go."""

from __future__ import annotations

import logging

logger = logging.getLogger("stardust_auto")
