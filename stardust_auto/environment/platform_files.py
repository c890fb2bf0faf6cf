"""Where the platform's own programs keep server, application and secret: files of the working directory (protocol.md §8.1).

Budget: every process that is to be traced looks for them, so nothing is imported before one of them exists. The readers accept what
.NET accepts: comments, trailing commas, a byte order mark, names in any case. They refuse what could do harm: XML entities, large files,
anything but a regular file, a file that every user may write.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The file with environment variables for the programs of a folder (``dotenv.py``).
DOTENV = ".env"
#: Asked in this order, and only while no server is known.
APP_SETTINGS = ("appsettings.Development.json", "appsettings.json")
#: The first that exists fills in what is still missing.
STAR_CONFIGS = ("Config/Star.config", "Star.config")

#: Bytes of the largest file that is read.
_LIMIT = 256 << 10
_JSON_NAMES = {"starserver": "servers", "starappid": "app_id", "starsecret": "secret"}
_XML_NAMES = {"server": "servers", "appkey": "app_id", "secret": "secret"}


class FileError(ValueError):
    """A file that exists and cannot be used. The text is one line without the file's content."""


def present() -> bool:
    """Whether the working directory has any of the files, ``.env`` included: five calls of ``stat`` where it has none."""
    return any(os.path.isfile(name) for name in (DOTENV, *APP_SETTINGS, *STAR_CONFIGS))


def read(name: str) -> list[tuple[str, str, str]]:
    """``(field of AgentSettings, text, name in the file)`` of each value that is set; nothing when there is no such file.

    Raises:
        FileError: it cannot be read, or is not what its name says.
    """
    if not os.path.isfile(name):
        return []
    text = text_of(name)
    pairs, names = (_json(text), _JSON_NAMES) if name.endswith(".json") else (_xml(text), _XML_NAMES)
    return [(names[key.lower()], value.strip(), key) for key, value in pairs if key.lower() in names and value.strip()]


def text_of(name: str) -> str:
    """The text of a small regular file that not every user may write to.

    Raises:
        FileError: it is not such a file, or not UTF-8.
    """
    try:
        # Race: what was a file a moment ago may be a pipe now, and opening a pipe would block.
        handle = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(handle, "rb") as file:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise FileError("it is not a file")
            if os.name == "posix" and state.st_mode & stat.S_IWOTH:
                raise FileError("every user may write to it")
            raw = file.read(_LIMIT + 1)
    except OSError as error:
        raise FileError(error.strerror or type(error).__name__) from None
    if len(raw) > _LIMIT:
        raise FileError(f"it is larger than {_LIMIT >> 10} KiB")
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise FileError("it is not UTF-8 text") from None


def _json(text: str) -> Iterator[tuple[str, str]]:
    import json
    import re

    # Remove comments and commas before a closing bracket, but not inside strings.
    strings = r'("(?:\\.|[^"\\])*")'
    text = re.sub(strings + r"|//[^\n]*|/\*.*?\*/", lambda match: match[1] or " ", text, flags=re.DOTALL)
    text = re.sub(strings + r"|,(?=\s*[}\]])", lambda match: match[1] or "", text, flags=re.DOTALL)
    try:
        value = json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        raise FileError(f"it is not JSON: {error.msg}, line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise FileError("it is not JSON") from None
    if not isinstance(value, dict):
        raise FileError("it is not a JSON object")
    return ((key, member) for key, member in value.items() if isinstance(member, str))


def _xml(text: str) -> Iterator[tuple[str, str]]:
    """The members of the one root element. A parser of XML would bring what makes XML dangerous."""
    import re

    text = re.sub(r"<!--.*?-->|<\?.*?\?>", "", text, flags=re.DOTALL).strip()
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise FileError("it has a document type, which is not read")
    root = re.match(r"<([A-Za-z_][\w.-]*)(?:\s[^<>]*)?>", text)
    if root is None or (not root[0].endswith("/>") and not text.endswith(f"</{root[1]}>")):
        raise FileError("it is not one complete XML element")
    members = re.finditer(r"<([A-Za-z_][\w.-]*)>([^<]*)</\1>", text[root.end() :])
    return ((member[1], _unescape(member[2])) for member in members)


def _unescape(text: str) -> str:
    for name, character in (("lt", "<"), ("gt", ">"), ("quot", '"'), ("apos", "'"), ("amp", "&")):
        text = text.replace(f"&{name};", character)
    return text


def complete(known: dict[str, object], accept: Callable[[str, str, str], None], *, discover: bool) -> list[str]:
    """Look for what ``known`` lacks in the platform's files, and ask the StarAgent of this machine.

    The secret of a file belongs to the application that the file names: it is not taken for another one.

    Args:
        known: values by field.
        accept: called as ``accept(field, text, source)`` for each find; it puts what it can use into ``known``.
        discover: whether to ask the StarAgent.

    Returns:
        One line for each file that cannot be used.
    """
    problems: list[str] = []
    for name in APP_SETTINGS:
        if "servers" in known:
            break
        _take(name, known, accept, problems)
    if discover and "servers" not in known:
        from stardust_auto.environment.star_agent import agent_of_machine

        agent = agent_of_machine()
        if agent is not None:
            for field, text in (("servers", agent.server), ("node_code", agent.code)):
                if text:
                    accept(field, text, "StarAgent")
    if not {"servers", "app_id", "secret"} <= known.keys():
        for name in STAR_CONFIGS:
            if os.path.isfile(name):
                _take(name, known, accept, problems)
                break
    return problems


def _take(name: str, known: dict[str, object], accept: Callable[[str, str, str], None], problems: list[str]) -> None:
    try:
        found = read(name)
    except FileError as error:
        problems.append(f"{name} in the working directory is not used: {error}")
        return
    app = next((text for field, text, _ in found if field == "app_id"), None)
    foreign = app is not None and str(known.get("app_id", app)).lower() != app.lower()
    for field, text, key in found:
        if field not in known and not (field == "secret" and foreign):
            accept(field, text, f"{name}: {key}")
