"""``python -m stardust_auto COMMAND...`` is ``stardust-auto COMMAND...``."""

import sys

from stardust_auto.activation.launcher import main

sys.exit(main())
