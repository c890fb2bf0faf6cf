"""Names and tags of Redis commands: the address, the command, and nothing of its arguments."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from stardust_auto.tracing.naming import NameCache, operation_name

#: Commands whose second word belongs to the name.
_CONTAINERS = frozenset(
    (
        "ACL",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "CONFIG",
        "DEBUG",
        "FUNCTION",
        "HIMPORT",
        "LATENCY",
        "MEMORY",
        "MODULE",
        "OBJECT",
    )
).union(("PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO"))
#: Commands that may wait for another client when told so by an argument: those calls are counted apart.
_MAY_BLOCK = frozenset(("XREAD", "XREADGROUP"))
_LIMIT = 1024


class RedisCall(NamedTuple):
    """A command, or a pipeline of commands, without keys and values."""

    address: str
    commands: tuple[str, ...]
    failed: int = 0

    def tag(self) -> str:
        """Address and command names; equal commands of a pipeline are counted."""
        if len(self.commands) == 1:
            text = f"{self.address} {self.commands[0]}"
        else:
            counts: dict[str, int] = {}
            for command in self.commands:
                counts[command] = counts.get(command, 0) + 1
            shown = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in list(counts.items())[:20])
            text = f"{self.address} {len(self.commands)} commands{': ' if shown else ''}{shown}"
        return f"{text}\r\nfailed: {self.failed}" if self.failed else text


class _Words(NameCache):
    """``{prefix}:{COMMAND}``, as for Redis: ``redis:{address}:{COMMAND}``; a second word only where it belongs to the command."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def make(self, key: str) -> str:
        return f"{self._prefix}:{key.strip().upper()[:40] or '(none)'}"


@functools.lru_cache(maxsize=256)
def _words(address: str) -> _Words:
    """The shared names of one Redis address, such as ``localhost/0``."""
    return _Words(f"redis:{operation_name(address)[:80]}")


class _Unfinished(str):
    """A name that the arguments still have a say in."""

    __slots__ = ()


class PipelineTag:
    """Makes the tag of a pipeline. Until it is known whether one is needed, only the first word of each command is held."""

    __slots__ = ("_address",)

    def __init__(self, address: str) -> None:
        self._address = address

    def pick(self, stack: Any, failed: int = 0, conflict: bool = False) -> tuple[Any, ...]:
        """What the tag needs of the queued commands: never their keys and values."""
        words = []
        for entry in stack:
            args = getattr(entry, "args", None) or entry
            if args and isinstance(args[0], (tuple, list)):
                args = args[0]
            words.append(args[0] if args else "")
        return words, failed, conflict

    def __call__(self, words: list[Any], failed: int, conflict: bool) -> str:
        text = RedisCall(self._address, tuple(command_word((word,)) for word in words), failed).tag()
        return f"{text}\r\nconflict" if conflict else text


class CommandNames(dict[Any, str]):
    """Maps a command as it was given (text or bytes, any case, perhaps with arguments in it) to the name of its span."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.pipeline = PipelineTag(address)
        self._names = _words(address)

    def __missing__(self, command: Any) -> str:
        if not isinstance(command, (str, bytes)):
            return self._names["(none)"]
        word = command_word((command,))
        name = self._names[word]
        if word in _MAY_BLOCK or word in _CONTAINERS:
            name = _Unfinished(name)
        if len(self) >= _LIMIT:
            self.clear()
        text = command.decode("latin-1") if isinstance(command, bytes) else command
        if text.upper() == word:  # not one that has arguments in it
            self[command] = name
        return name

    def name(self, args: tuple[Any, ...]) -> str:
        """The name for a call with these arguments."""
        try:
            name = self[args[0]]
        except (IndexError, TypeError):
            return self._names["(none)"]
        return self._names[command_word(args)] if type(name) is _Unfinished else name


def command_word(args: tuple[Any, ...]) -> str:
    """``GET``, ``CONFIG GET``, ``XREAD BLOCK``: as much of a command as is no argument."""
    words: list[str] = []
    for argument in args[:2]:
        text = (
            argument.decode("latin-1") if isinstance(argument, bytes) else argument if isinstance(argument, str) else ""
        )
        words += text.upper().split()[:2]
    if not words:
        return "(none)"
    first = words[0]
    if first in _CONTAINERS and len(words) > 1 and words[1].replace("-", "").isalpha() and len(words[1]) <= 20:
        return f"{first} {words[1]}"
    if first in _MAY_BLOCK and any(
        isinstance(one, (str, bytes)) and one[:5].upper() in ("BLOCK", b"BLOCK") for one in args[1:8]
    ):
        return f"{first} BLOCK"
    return first
