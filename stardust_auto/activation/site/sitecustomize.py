"""Activates stardust_auto, then hands over to the sitecustomize that the environment has of its own, if any.

``site`` imports this at the start of every Python whose PYTHONPATH names this directory, other versions and other
environments included: syntax and calls are those that every Python 3 (and 2.7) understands, and nothing is printed.
"""

import sys


def _activate():
    # type: () -> None
    if sys.version_info < (3, 10):  # noqa: UP036 - a foreign interpreter may be older than ours
        return
    try:
        from stardust_auto.activation import activate_for_launcher
    except ImportError:  # an environment without stardust_auto: not ours to touch
        return
    activate_for_launcher()


def _behind_us():
    # type: () -> list[str]
    here = __file__.replace("\\", "/").rpartition("/")[0]
    paths = [str(path).replace("\\", "/").rstrip("/") for path in sys.path]
    start = paths.index(here) + 1 if here in paths else 0
    return [sys.path[index] for index in range(start, len(paths)) if paths[index] != here]


def _inside_another():
    # type: () -> bool
    frame = sys._getframe().f_back
    while frame is not None:
        name = frame.f_code.co_filename.replace("\\", "/")
        if name.endswith("/sitecustomize.py") and frame.f_globals is not globals():
            return True
        frame = frame.f_back
    return False


def _hand_over():
    # type: () -> None
    """Run the next sitecustomize on sys.path in the place of this one, if there is one."""
    if sys.version_info < (3, 6):  # noqa: UP036 - as above
        return
    from _frozen_importlib import module_from_spec

    rest = _behind_us()
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        spec = find("sitecustomize", rest) if find is not None else None
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            sys.modules["sitecustomize"] = module
            spec.loader.exec_module(module)
            return
    # Another agent's sitecustomize may be what runs this one. It would end with an error that it does not expect.
    if not _inside_another():
        # What Python says without us: the module ``site`` ignores it, and `import sitecustomize` fails as it should.
        raise ModuleNotFoundError("No module named 'sitecustomize'", name="sitecustomize")


_activate()
_hand_over()
