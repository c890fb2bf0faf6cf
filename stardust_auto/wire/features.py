"""What a server can do beyond a StarServer. It lists the names in ``features`` of its answers to login and Ping; nobody guesses.

A StarServer lists nothing and ignores members that it does not know (protocol.md §12.8).
"""

from __future__ import annotations

from typing import Final

#: A Ping may carry what became of the configuration in its member ``Config`` (``messages.ConfigVerdict``).
CONFIG_VERDICTS: Final = "config-verdicts"
#: A sample may carry ``StartUs`` and ``EndUs``: microseconds, where the protocol has milliseconds.
MICROSECONDS: Final = "microseconds"
#: A client that was issued a secret, and has one of its own, may send its own one to ``/App/Secret`` with the token of its login.
OWN_SECRET: Final = "own-secret"  # noqa: S105 - the name of a feature
