"""``python -m stardust_auto.ctl``: the same as the console script ``stardustctl``."""

from __future__ import annotations

import sys

from stardust_auto.ctl import main

sys.exit(main())
