"""Runs inside the examined interpreter (``python FLAGS -c SOURCE SCRIPT``): says what is there and what got hooked.

Its text is handed over as it is, so it is plain standard library, and it must work where stardust_auto is not installed.
The last line of its output is one JSON object.
"""

import json
import os
import sys


def agent_facts() -> dict[str, object]:
    """What an interpreter that has stardust_auto knows about itself."""
    import stardust_auto
    from stardust_auto.activation.install import installed, site_folder, wanted_files
    from stardust_auto.activation.marks import interpreter_mark
    from stardust_auto.agent import active_options
    from stardust_auto.environment.settings import program_name

    facts: dict[str, object] = {
        "version": stardust_auto.__version__,
        "folder": stardust_auto.__path__[0],
        "active": active_options() is not None,
        "mark": interpreter_mark(),
        "app": program_name(),
        "pth": installed(),
    }
    folder = site_folder()
    ours = [os.path.join(folder, name) for name in wanted_files()]
    facts["damaged"] = [path for path in ours if os.path.exists(path) and path not in installed()]
    template = os.path.join(folder, "sitecustomize.py")
    if os.path.isfile(template):
        with open(template, encoding="utf-8", errors="replace") as stream:
            facts["sitecustomize"] = template if "stardust_auto" in stream.read() else ""
    from stardust_auto.ctl.libraries import examine_libraries

    facts["libraries"] = examine_libraries()
    return facts


def main() -> None:
    script = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.argv[:] = [script]
    facts: dict[str, object] = {
        "executable": sys.executable,
        "version": sys.version.split()[0],
        "prefix": sys.prefix,
        "venv": sys.prefix != sys.base_prefix,
        "no_site": bool(sys.flags.no_site),
        "ignore_environment": bool(sys.flags.ignore_environment),
        "agent": None,
        "trouble": "",
    }
    try:
        facts["agent"] = agent_facts()
    except ImportError as exc:
        facts["trouble"] = str(exc)
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
