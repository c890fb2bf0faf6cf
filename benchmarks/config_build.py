"""What typed settings cost: ``python benchmarks/config_build.py [--json]``. Targets in docs/settings.md, "What it costs".

Minimum of several runs: the machine's noise only ever adds.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, create_model
from pydantic_settings import BaseSettings

from stardust_auto import live
from stardust_auto.config import MemoryClient, StardustSettings
from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.config.typed.builder import build

if TYPE_CHECKING:
    from collections.abc import Callable

FOREIGN = 10_000


def best(function: Callable[[], object], runs: int = 15) -> float:
    """Seconds of the quickest run."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def scalars(count: int) -> tuple[type[StardustSettings], dict[str, str]]:
    """A class of ``count`` integers, and a map that sets them all."""
    fields: dict[str, Any] = {f"field_{number}": (int, 0) for number in range(count)}
    return create_model("Scalars", __base__=StardustSettings, **fields), {
        f"field_{number}": "1" for number in range(count)
    }


def models(count: int, size: int = 4) -> tuple[type[StardustSettings], dict[str, str]]:
    """A class of ``count`` models of ``size`` fields each, and a map that sets them all."""
    inner: dict[str, Any] = {f"leaf_{number}": (int, 0) for number in range(size)}
    model = create_model("Inner", __base__=BaseModel, __cls_kwargs__={"frozen": True}, **inner)
    fields: dict[str, Any] = {f"model_{number}": (model, model()) for number in range(count)}
    values = {f"Model_{number}:Leaf_{leaf}": "1" for number in range(count) for leaf in range(size)}
    return create_model("Models", __base__=StardustSettings, **fields), values


def raw(values: dict[str, str], foreign: int = 0) -> RawSnapshot:
    """A snapshot of ``values`` among the keys of other programs."""
    others = {f"Other:App{number % 97}:Key{number}": "value" for number in range(foreign)}
    return make_snapshot({**others, **values}, version=1, origin="memory", app_id="bench")


def reading_ns(loops: int = 200_000) -> float:
    """Nanoseconds of ``config.current.x``, the loop subtracted."""
    settings, values = scalars(1)
    config = live(settings, client=MemoryClient(values))
    config.start()
    numbers = range(loops)

    def read() -> None:
        for _ in numbers:
            config.current.field_0  # type: ignore[attr-defined]  # noqa: B018  # made by create_model

    def empty() -> None:
        for _ in numbers:
            pass

    return (best(read, 9) - best(empty, 9)) / loops * 1e9


def measure() -> dict[str, float]:
    """All numbers: milliseconds, and nanoseconds where the name says so."""
    result: dict[str, float] = {}
    for name, (settings, values) in {
        "20 scalars": scalars(20),
        "200 scalars": scalars(200),
        "5 models x 4": models(5),
        "50 models x 4": models(50),
    }.items():
        alone, crowded = raw(values), raw(values, FOREIGN)
        for label, snapshot in (("", alone), (f" + {FOREIGN} foreign keys", crowded)):
            snapshot.view()
            result[f"build {name}{label}"] = best(lambda s=settings, r=snapshot: build(s, r)) * 1000  # type: ignore[misc]  # bound early
    settings, values = scalars(200)
    everything = dict(raw(values, FOREIGN).values)
    result[f"index {FOREIGN} foreign keys, once per change"] = best(lambda: make_snapshot(everything).view()) * 1000
    client = MemoryClient(everything)
    live(settings, client=client).start()
    same = dict(client.snapshot.values)
    result["publish of the same content"] = best(lambda: client.publish(same)) * 1000
    for count in (20, 200):
        settings, _ = scalars(count)
        plain = create_model("Plain", __base__=BaseSettings, **dict.fromkeys(settings.model_fields, (int, 0)))
        pairs = [(best(settings, 40), best(plain, 40)) for _ in range(3)]  # in turns: the machine's noise meets both
        ours, theirs = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
        result[f"Settings() of {count} fields, no center"] = ours * 1000
        result[f"Settings() of {count} fields, times pydantic-settings"] = ours / theirs
    result["read .current.x, ns"] = reading_ns()
    return result


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("stardust_auto").addHandler(logging.NullHandler())  # it warns of the foreign keys
    numbers = measure()
    if arguments.json:
        print(json.dumps({"python": sys.version.split()[0], **numbers}))
        return
    for name, number in numbers.items():
        unit = "ns" if name.endswith(", ns") else "" if "times" in name else "ms"
        print(f"{name.removesuffix(', ns'):45} {number:9.3f} {unit}")


if __name__ == "__main__":
    main()
