"""What is told of Redis commands: the server's address, the command, and by default nothing of its arguments."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from stardust_auto.tracing.naming import operation_name

_CONTAINERS_TEXT = """
ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION HIMPORT LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SENTINEL SLOWLOG XGROUP
XINFO
"""
#: Commands whose second word belongs to the name.
_CONTAINERS = frozenset(_CONTAINERS_TEXT.split())
#: Commands that wait for another client if an argument says so. Those calls are counted apart.
_MAY_BLOCK = frozenset(("XREAD", "XREADGROUP"))
_FIRST_IS_KEY_TEXT = """
APPEND BITCOUNT BITFIELD BITPOS BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN DECR DECRBY DEL DUMP EXISTS EXPIRE EXPIREAT
EXPIRETIME GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HEXPIRE HGET HGETALL
HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HSCAN HSET HSETNX HSTRLEN HVALS INCR INCRBY INCRBYFLOAT LINDEX LINSERT LLEN LMOVE
LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MGET MSET MSETNX PERSIST PEXPIRE PEXPIREAT PFADD PFCOUNT PFMERGE PSETEX PTTL
RENAME RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD SCARD SDIFF SET SETBIT SETEX SETNX SETRANGE SINTER SISMEMBER SMEMBERS
SMISMEMBER SMOVE SORT SPOP SRANDMEMBER SREM SSCAN STRLEN SUNION TOUCH TTL TYPE UNLINK WATCH XACK XADD XCLAIM XDEL XLEN
XPENDING XRANGE XREVRANGE XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZPOPMAX ZPOPMIN ZRANGE ZRANGEBYSCORE ZRANK ZREM
ZREMRANGEBYSCORE ZREVRANGE ZREVRANK ZSCAN ZSCORE
"""
#: Commands whose first argument is a key. Of others, such as EVAL and AUTH, no argument is ever looked at.
_FIRST_IS_KEY = frozenset(_FIRST_IS_KEY_TEXT.split())
_KEY_PREFIX = re.compile(r"[A-Za-z]{1,32}(?![A-Za-z])")
_LIMIT = 1024
_WORD_LIMIT = 40


class RedisCall(NamedTuple):
    """A command, or a pipeline of commands. ``key``: what is told of the key of a single command, ``""`` by default."""

    address: str
    commands: tuple[str, ...]
    failed: int = 0
    key: str = ""

    def tag(self) -> str:
        """Address and command names; equal commands of a pipeline are counted."""
        if len(self.commands) == 1:
            text = f"{self.address} {self.commands[0]}{' ' if self.key else ''}{self.key}"
        else:
            counts: dict[str, int] = {}
            for command in self.commands:
                counts[command] = counts.get(command, 0) + 1
            shown = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in list(counts.items())[:20])
            text = f"{self.address} {len(self.commands)} commands{': ' if shown else ''}{shown}"
        return f"{text}\r\nfailed: {self.failed}" if self.failed else text


def command_word(args: tuple[Any, ...]) -> str:
    """``GET``, ``CONFIG GET``, ``XREAD BLOCK``: the part of a command that is no argument."""
    words: list[str] = []
    for argument in args[:2]:
        words += _text(argument).upper().split()[:2]
    if not words:
        return "(none)"
    first = words[0]
    if first in _CONTAINERS and len(words) > 1 and words[1].replace("-", "").isalpha() and len(words[1]) <= 20:
        return f"{first} {words[1]}"
    if first in _MAY_BLOCK and any(_text(one)[:5].upper() == "BLOCK" for one in args[1:8]):
        return f"{first} BLOCK"
    return first


def key_prefix(args: tuple[Any, ...]) -> str:
    """``user`` for ``GET user:7:cart``: the key up to its first digit or separator; ``""`` where no key is expected."""
    if len(args) < 2 or _text(args[0]).upper() not in _FIRST_IS_KEY:
        return ""
    key = args[1][0] if isinstance(args[1], (list, tuple)) and args[1] else args[1]
    found = _KEY_PREFIX.match(_text(key))
    return found.group() if found else ""


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""


class _NeedsArguments(str):
    """A name that depends on the arguments, too."""

    __slots__ = ()


class CommandNames(dict[Any, str]):
    """The names of one server: a command as it was given (text or bytes, any case) to ``redis:{address}:{COMMAND}``."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.pipeline = PipelineTag(address)
        self._prefix = f"redis:{operation_name(address)[:80]}:"

    def __missing__(self, command: Any) -> str:
        word = command_word((command,))
        name = self._name(word)
        if word in _MAY_BLOCK or word in _CONTAINERS:
            name = _NeedsArguments(name)
        if len(self) >= _LIMIT:
            self.clear()
        if _text(command).upper() == word:  # not one with its arguments in the same text
            self[command] = name
        return name

    def name(self, args: tuple[Any, ...]) -> str:
        """The name of a call with these arguments."""
        try:
            name = self[args[0]]
        except (IndexError, TypeError):
            return self._name("(none)")
        return name if type(name) is str else self._name(command_word(args))

    def _name(self, word: str) -> str:
        return f"{self._prefix}{word[:_WORD_LIMIT]}"

    def describe(self, name: str, args: tuple[Any, ...] = ()) -> str:
        """The tag of one command. ``args``: given where the key may be looked at."""
        return RedisCall(self.address, (name[len(self._prefix) :],), 0, key_prefix(args)).tag()


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
