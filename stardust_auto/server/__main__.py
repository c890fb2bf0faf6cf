"""``python -m stardust_auto.server``: the embedded server in the foreground."""

from __future__ import annotations

import sys

from stardust_auto.server.launch import main

if __name__ == "__main__":
    sys.exit(main())
