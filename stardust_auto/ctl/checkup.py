"""What the doctor looks at: the interpreter and what gets hooked in it, the settings, the server."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stardust_auto.activation import launcher, marks
from stardust_auto.ctl.findings import Finding
from stardust_auto.environment.settings import VARIABLES
from stardust_auto.errors import EnvironmentVariableError
from stardust_auto.instrumentation.targets import TARGET_MODULES
from stardust_auto.privacy import MASK, mask_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stardust_auto.ctl.findings import Grade
    from stardust_auto.ctl.launched import Launched

#: Something that no program listens on: the agent is activated by having an address, and never calls it while being examined.
_NO_SERVER = "http://127.0.0.1:9"
_OFF = frozenset(("0", "false", "no", "off", "n", "f"))
_INSTRUMENT = "STARDUST_INSTRUMENT_"
#: Variables that are not settings of the agent.
_OTHER_VARIABLES = frozenset(
    f"STARDUST_{name}"
    for name in ("AUTO", "AUTO_SUMMARY", "AUTO_PYTHON", "ADMIN_KEY", "CONSOLE_PASSWORD", "SERVER_APP_SECRET", "LANG")
)
_ASGI_SERVERS = frozenset(("uvicorn", "hypercorn", "daphne", "granian", "fastapi"))


def probe(launched: Launched | None, environ: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Ask the interpreter, under the flags of the command, as ``stardust-auto`` would start it. It runs nothing of the program."""
    interpreter = launched.interpreter if launched is not None and launched.interpreter else sys.executable
    flags = launched.flags if launched is not None else ()
    script = launched.script if launched is not None else ""
    environ = launcher.prepare(dict(launched.variables) if launched is not None else {}, set(), dict(environ))
    environ.setdefault("STARDUST_SERVER", _NO_SERVER)
    environ.pop("STARDUST_LOG_LEVEL", None)
    source = files("stardust_auto.ctl").joinpath("probe.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(  # noqa: S603 - the user's own interpreter, asked for by the user
            [interpreter, *flags, "-c", source, script],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
        facts = json.loads(done.stdout.strip().rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        return {"executable": interpreter, "failure": f"did not answer within {seconds:.0f} s"}
    except (OSError, ValueError) as error:
        return {"executable": interpreter, "failure": f"cannot be examined ({type(error).__name__})"}
    complaints = [line for line in done.stderr.splitlines() if line.startswith("stardust-auto:")]
    off = environ.get("STARDUST_ENABLED", "").strip().lower() in _OFF
    return {**facts, "switched_off": off, "complaint": complaints[0].partition(": ")[2] if complaints else ""}


def interpreter_findings(launched: Launched | None, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Interpreter and activation, from the facts of :func:`probe`."""
    if launched is not None and launched.interpreter is None:
        yield Finding(
            "warn",
            "command",
            f"{launched.program} runs {launched.starts}, which is no Python; the Pythons of this environment that it "
            "starts will be traced, unless something below says no",
        )
    if "failure" in facts:
        yield Finding("bad", "interpreter", f"{facts['executable']}: {facts['failure']}")
        return
    venv = "a virtual environment" if facts["venv"] else "not in a virtual environment"
    flags = f", started with {' '.join(launched.flags)}" if launched is not None and launched.flags else ""
    yield Finding("ok", "interpreter", f"Python {facts['version']} at {facts['executable']}, {venv}{flags}")
    agent = facts.get("agent")
    if facts["no_site"]:
        yield Finding(
            "bad", "activation", "-S keeps Python from reading any start-up file: nothing can activate the agent"
        )
        return
    if not isinstance(agent, dict):
        yield Finding(
            "bad",
            "agent",
            f"stardust_auto is not installed there ({facts['trouble']}): {facts['executable']} -m pip install stardust-auto",
        )
        return
    yield Finding("ok", "agent", f"stardust_auto {agent['version']} in {agent['folder']}")
    yield _activation(facts, agent)
    for path in agent.get("damaged", ()):
        yield Finding("bad", "installed", f"{path} is damaged: 'stardustctl install' writes it again")
    if agent["pth"]:
        yield Finding("ok", "installed", f"{', '.join(agent['pth'])}: also active without launcher, if STARDUST_AUTO=1")
    if agent.get("sitecustomize"):
        yield Finding("ok", "installed", f"{agent['sitecustomize']}: also active without launcher")
    if not agent["pth"] and not agent.get("sitecustomize") and not agent.get("damaged"):
        yield Finding("info", "installed", "no start-up file: needed only without launcher ('stardustctl install')")


def uwsgi_findings(command: Sequence[str]) -> Iterator[Finding]:
    """What an older uWSGI needs to let our thread run. Its option may also stand in a file, so this is a hint."""
    names = {os.path.basename(word) for word in command}
    if "uwsgi" in names and not names & {"--enable-threads", "--threads"}:
        yield Finding(
            "info",
            "uwsgi",
            "before 2.0.27 it needs --enable-threads: without it a worker reports only when it ends",
        )


def _activation(facts: Mapping[str, Any], agent: Mapping[str, Any]) -> Finding:
    if agent["active"]:
        return Finding("ok", "activation", "active when started by stardust-auto")
    if facts["ignore_environment"]:
        text = "-I and -E hide PYTHONPATH from the launcher: run 'stardustctl install' in that environment once"
    elif agent["mark"] != marks.interpreter_mark():
        text = f"that is another environment than the one of this stardust-auto ({sys.prefix}): use the launcher installed there"
    elif facts.get("switched_off"):
        text = "STARDUST_ENABLED is off: nothing is active"
    elif str(facts["complaint"]).startswith("STARDUST_"):  # the variable is a finding of its own
        return Finding("skip", "activation", "needs a value of STARDUST_... that can be used")
    elif facts["complaint"]:
        text = str(facts["complaint"])
    else:
        text = "not active: another sitecustomize is in front of ours"
    return Finding("bad", "activation", text)


def library_findings(libraries: list[dict[str, Any]]) -> Iterator[Finding]:
    """Libraries that are there and are not traced though nobody switched them off, or that others wrapped."""
    for row in libraries:
        if row["state"] in ("failed", "broken", "unsupported"):
            yield Finding(
                "bad" if row["state"] == "failed" else "warn", row["library"], f"{row['state']}: {row['reason']}"
            )
        for attribute, other in row["covered"]:
            yield Finding("warn", row["library"], f"{attribute} is wrapped again by {other}")


def setting_rows(environ: Mapping[str, str], options: Mapping[str, str]) -> list[dict[str, str]]:
    """Every variable of the agent that is set, with its spelling; secrets masked. Launcher options win over the environment."""
    rows = []
    merged = {**environ, **options}
    for variable in VARIABLES:
        found = variable.find(merged)
        if found is None:
            continue
        spelling, value = found
        trouble = ""
        try:
            variable.read(spelling, value)
        except EnvironmentVariableError as exc:
            trouble = str(exc)
        rows.append(
            {
                "setting": variable.name,
                "value": MASK if variable.secret else mask_value(variable.name, value) or "",
                "source": "stardust-auto option" if spelling in options else f"environment, {spelling}",
                "trouble": trouble,
            }
        )
    rows += [
        {"setting": name, "value": value, "source": f"environment, {name}", "trouble": ""}
        for name, value in sorted(environ.items())
        if name.startswith("STARDUST_INSTRUMENT_")
    ]
    return rows


def switch_findings(environ: Mapping[str, str], integrations: Iterable[str]) -> Iterator[Finding]:
    """Switches and names that keep a program from being traced, as the environment of the program has them."""
    for name in ("STARDUST_TRACE_ENABLED", "STARDUST_INSTRUMENT"):
        if environ.get(name, "").strip().lower() in _OFF:
            yield Finding("bad", "tracing", f"{name} is off: nothing is traced")
    if environ.get("STARDUST_CONFIG_ENABLED", "").strip().lower() in _OFF:
        yield Finding("info", "config", "STARDUST_CONFIG_ENABLED is off: values of the center are not used")
    if "*" in (part.strip() for part in environ.get("STARDUST_EXCLUDES", "").replace(";", ",").split(",")):
        yield Finding("bad", "rules", "STARDUST_EXCLUDES has '*', which excludes every operation")
    known = {variable.name for variable in VARIABLES} | _OTHER_VARIABLES
    switches = {f"{_INSTRUMENT}{name.upper()}" for name in integrations}
    for name in sorted(environ):
        if not name.startswith("STARDUST_") or name in known or name in switches:
            continue
        candidates = switches if name.startswith(_INSTRUMENT) else known
        if name.startswith(_INSTRUMENT) and not switches:
            continue
        near = difflib.get_close_matches(name, candidates, 1, 0.8)
        grade: Grade = "bad" if near else "warn"
        yield Finding(grade, name, f"no such variable{f': {near[0]} is meant?' if near else ''}; it has no effect")


def cache_findings(environ: Mapping[str, str], *, secret: bool) -> Iterator[Finding]:
    """Whether what a server issues survives the process."""
    folder = environ.get("STARDUST_CACHE_DIR", "").strip()
    if not folder:
        try:
            import platformdirs

            folder = platformdirs.user_cache_dir("stardust-auto", appauthor=False)
        except RuntimeError:
            folder = ""
    there = folder
    while there and not os.path.exists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if folder and os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK):
        return
    yield Finding(
        "info" if secret else "bad",
        "cache",
        f"{folder or 'the cache folder of this user'} cannot be written: a secret that a server issues is lost with the process, and "
        "the next one is refused; set STARDUST_CACHE_DIR, or STARDUST_SECRET",
    )


def command_findings(
    command: Sequence[str], launched: Launched | None, integrations: Iterable[str]
) -> Iterator[Finding]:
    """What the command itself tells: servers that are not traced, scripts that hide the environment, files that hide a library."""
    names = {os.path.splitext(os.path.basename(word))[0] for word in command}
    asgi = sorted(names & _ASGI_SERVERS)
    if asgi and "asgi" not in integrations:
        yield Finding(
            "bad",
            "asgi",
            f"{asgi[0]} serves ASGI: the requests of FastAPI, Starlette and Django's ASGI are not traced yet",
        )
    if launched is None:
        return
    if launched.interpreter is None:
        for line in _text_of(launched.program).splitlines():
            if re.search(r"\b(?:python|pypy)[\d.]*\s+(?:-\w+\s+)*-\w*[IES]", line):
                yield Finding(
                    "bad", "command", f"{launched.program} hides the launcher from Python: {line.strip()[:100]!r}"
                )
            elif re.search(r"\benv\s+(?:-\w+\s+)*(?:-i\b|-\s|--ignore-environment|-u\s*PYTHONPATH)", line):
                yield Finding("bad", "command", f"{launched.program} empties the environment: {line.strip()[:100]!r}")
    elif launched.script and os.path.isfile(launched.script):
        folder = os.path.dirname(os.path.abspath(launched.script))
        for name in sorted({target.partition(".")[0] for target in TARGET_MODULES}):
            if os.path.isfile(os.path.join(folder, f"{name}.py")):
                text = f"{os.path.join(folder, name)}.py hides the library of that name: rename the file"
                yield Finding("bad", name, text)


def _text_of(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read(65_536).decode("utf-8", "replace")
    except OSError:
        return ""
