"""Import hooks of others see plain loaders: what they set, copy and compare on the loader of a target works as without the agent."""

from __future__ import annotations

import pytest
from _kit.activation_kit import LAUNCHER, PROBE, Run

#: What programs and other agents do with the loader that a finder gives them.
HOOK = """
import copy, importlib.util, pickle, sys
results = []
def probe(name, function):
    try: results.append((name, function()))
    except BaseException as error: results.append((name, type(error).__name__))
class Hook:
    busy = False
    def find_spec(self, name, path=None, target=None):
        if name != "sqlite3" or self.busy: return None
        self.busy = True
        spec = importlib.util.find_spec(name)
        loader = spec.loader
        probe("class", lambda: type(loader).__name__)
        probe("copy", lambda: type(copy.copy(loader)).__name__)
        probe("pickle", lambda: type(pickle.loads(pickle.dumps(loader))).__name__)
        probe("code", lambda: type(loader).get_code(loader, name) is not None)
        probe("package", lambda: type(loader).is_package(loader, name))
        probe("equal", lambda: loader == type(loader)(loader.name, loader.path))
        probe("names", lambda: sorted(vars(loader)))
        probe("spec", lambda: (isinstance(spec, importlib.machinery.ModuleSpec), repr(spec).replace(repr(loader), "LOADER")))
        plain = loader.exec_module
        def exec_module(module): results.append("executed"); plain(module)
        probe("set", lambda: (setattr(loader, "exec_module", exec_module), setattr(loader, "get_code", loader.get_code)))
        return spec
sys.meta_path.insert(0, Hook())
import sqlite3
results.append((type(sqlite3.__spec__).__name__, type(sqlite3.__loader__).__name__, sqlite3.__spec__._initializing))
connection = sqlite3.connect(":memory:")
print(connection.execute("select 1").fetchall(), results)
"""


def test_a_hook_does_what_it_likes_with_the_loader(run: Run, launch: Run, python: str) -> None:
    plain, traced = run([python, "-c", HOOK]), launch([python, "-c", HOOK])
    assert plain.stderr == ""
    assert (traced.stdout, traced.stderr, traced.returncode) == (plain.stdout, "", 0)


def test_the_first_target_is_traced_and_its_spec_is_a_plain_one(launch: Run, python: str) -> None:
    code = (
        "import sqlite3; from stardust_auto.instrumentation import states\n"
        "print(type(sqlite3.__spec__).__name__, [one.state for one in states() if one.module == 'sqlite3'])"
    )
    done = launch([python, "-c", code])
    assert (done.stdout, done.stderr) == ("ModuleSpec ['hooked']\n", "")


@pytest.mark.parametrize("first", ["importlib.util.find_spec('sqlite3')", "importlib.import_module('nowhere')"])
def test_a_module_that_is_only_looked_for(launch: Run, python: str, first: str) -> None:
    code = (
        f"import importlib.util\ntry: {first}\nexcept ImportError: pass\n"
        "import sqlite3; from stardust_auto.instrumentation import states\n"
        "print([one.state for one in states() if one.module == 'sqlite3'])"
    )
    done = launch([python, "-c", code])
    assert (done.stdout, done.stderr) == ("['hooked']\n", "")


#: The start-up file of another agent: it runs the next sitecustomize of the path before it starts, unguarded.
OTHER_AGENT = """
import os, sys
from importlib.machinery import PathFinder
here = os.path.dirname(os.path.abspath(__file__))
spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != here])
if spec is not None and not getattr(sys, "other_agent", False):
    sys.other_agent = "loading"
    from importlib.util import module_from_spec
    spec.loader.exec_module(module_from_spec(spec))
sys.other_agent = "started"
"""


@pytest.mark.parametrize("outside", [True, False], ids=["it is outside", "it is inside"])
def test_another_agent_with_a_start_up_file_starts_too(
    run: Run, python: str, refusing: str, tmp_path: object, outside: bool
) -> None:
    import os

    from stardust_auto.activation.marks import SITE

    folder = os.path.join(str(tmp_path), "other")
    os.mkdir(folder)
    with open(os.path.join(folder, "sitecustomize.py"), "w") as file:
        file.write(OTHER_AGENT)
    code = "import sys; print(sys.other_agent)\n" + PROBE
    if outside:
        done = run([LAUNCHER, "--server", refusing, python, "-c", code], env={"PYTHONPATH": folder})
    else:
        done = run(
            [python, "-c", code],
            env={"PYTHONPATH": os.pathsep.join([folder, SITE]), "STARDUST_SERVER": refusing},
        )
    assert (done.stdout, done.stderr) == ("started\nactive\n", "")
