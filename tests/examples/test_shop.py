"""The main job: the shop, traced across two processes, with settings that change while it runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _kit.examples import Place


def test_the_shop_in_one_command(place: Place) -> None:
    done = place.run(*place.command("shop/shop.py", "--demo", "--seconds", "6", summary=True))
    assert done.returncode == 0, done.stderr
    out, err = done.stdout, done.stderr

    # The program's own output, and the change of its settings in it.
    assert "Welcome! 0 % off today." in out
    assert "discount: 0 % -> 20 %" in out
    assert "Spring sale! 20 % off today." in out
    assert re.search(r"closed after \d+ requests", out)
    assert "150 % off" not in out

    # One line with the console's address, one for the refused value.
    assert err.startswith("stardust-auto: console at http://127.0.0.1:")
    refused = [line for line in err.splitlines() if "refused" in line]
    assert len(refused) == 1
    assert 'key "discount"' in refused[0]
    assert "less than or equal to 90" in refused[0]

    # The table and the waterfall.
    assert re.search(r"^/orders +\d+ +\d+ ", err, re.MULTILINE)
    assert re.search(r"^(one of the )?slowest traces?: ", err, re.MULTILINE)

    # The center is left with valid values.
    checked = place.ctl("config", "check", "--app", "shop", f"{place.command('shop/settings.py')[-1]}:Settings")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    # One trace across two processes, each span beneath the one that caused it.
    names = {app["name"] for app in place.ctl_json("apps")}
    assert names == {"shop", "stock"}
    orders = [row for row in place.ctl_json("traces", "--app", "shop", "--sort", "slow") if row["name"] == "/orders"]
    chains = {chain for order in orders[:3] for chain in _chains(place, order["trace_id"])}
    assert ("shop wsgi", "shop http", "stock wsgi", "stock db") in chains
    assert ("shop wsgi", "shop http", "stock wsgi", "stock redis") in chains
    assert ("shop wsgi", "shop db") in chains


def _chains(place: Place, trace_id: str) -> set[tuple[str, ...]]:
    """The ways from the root to each leaf of a trace, as application and kind of operation."""
    spans = {span["span_id"]: span for span in place.ctl_json("trace", trace_id)["spans"]}
    chains = set()
    for span in spans.values():
        chain: list[str] = []
        at = span
        while at is not None:
            head = at["name"].partition(":")[0]
            kind = "wsgi" if at["name"].startswith("/") else "http" if head in ("http", "https") else head
            chain.insert(0, f"{at['app']} {kind}")
            at = spans.get(at["parent_id"])
        chains.add(tuple(chain))
    return chains


def test_the_shop_without_any_server(place: Place) -> None:
    place.environ["SHOP_DISCOUNT"] = "5"
    done = place.run(*place.command("shop/shop.py", "--requests", "40", "--demo", traced=False))
    assert (done.returncode, done.stderr) == (0, "")
    assert "--demo needs a configuration center" in done.stdout
    assert re.search(r"closed after 4\d requests", done.stdout)
    assert not (place.folder / ".stardust").exists()


def test_a_bad_value_in_the_environment_is_told(place: Place) -> None:
    place.environ["SHOP_DISCOUNT"] = "150"
    done = place.run(*place.command("shop/shop.py", "--requests", "4", traced=False))
    assert done.returncode == 1
    assert "SHOP_DISCOUNT" in done.stderr
    assert "less than or equal to 90" in done.stderr


def test_keys_of_the_shop(place: Place) -> None:
    done = place.ctl("config", "keys", f"{place.command('shop/settings.py')[-1]}:Settings", "--json")
    rows = json.loads(done.stdout)
    assert [(row["key"], row["variable"]) for row in rows] == [
        ("greeting", "SHOP_GREETING"),
        ("discount", "SHOP_DISCOUNT"),
        ("stock:max_per_order", "SHOP_STOCK__MAX_PER_ORDER"),
    ]
