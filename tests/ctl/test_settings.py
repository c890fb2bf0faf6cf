"""``stardustctl config`` with the program's own settings class: check, show, explain, diff, keys, publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _kit.ctl import Result


def test_what_is_staged_is_checked_before_anybody_is_hurt(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=20", "database:pool=7")
    good = shop("config", "check", program)
    assert (good.code, good.out) == (0, "Settings of shop, version 1 and 2 staged changes: valid\n")
    shop("config", "set", "discount=150")
    bad = shop("config", "check", program)
    assert bad.code == 1
    assert bad.out == (
        'error: discount from Stardust shop v2 key "discount": Input should be less than or equal to 90\n'
    )
    as_json = shop("config", "check", program, "--json")
    assert as_json.code == 1
    assert as_json.json["ok"] is False
    assert shop("config", "check", program, "--published").code == 0


def test_publish_with_a_class_refuses_what_the_program_would_refuse(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=150")
    refused = shop("config", "publish", program)
    assert refused.code == 1
    assert "not published, the program would refuse it: discount from Stardust" in refused.err
    assert shop("config", "show", "--json").json["version"] == 1
    shop("config", "set", "discount=15")
    assert "version 2 is published" in shop("config", "publish", program).out


def test_set_and_unset_publish_only_what_the_class_accepts(shop: Callable[..., Result], program: str) -> None:
    refused = shop("config", "set", "discount=500", "--publish", "--settings", program)
    assert refused.code == 1
    assert "not published, the program would refuse it: discount from Stardust" in refused.err
    assert shop("config", "show", "--json").json["version"] == 1
    assert shop("config", "set", "discount=50", "--publish", "--settings", program).code == 0
    needy = program.replace(":Settings", ":Needy")
    assert shop("config", "set", "region=eu", "--publish", "--settings", needy).code == 0
    gone = shop("config", "unset", "region", "--publish", "--settings", needy)
    assert (gone.code, "region: missing" in gone.err) == (1, True)
    assert shop("config", "show", "--json").json["version"] == 3


def test_a_roll_back_is_checked_before_it_is_published(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=500", "--publish")
    shop("config", "set", "discount=50", "--publish")
    refused = shop("config", "rollback", "2", "--settings", program)
    assert refused.code == 1
    assert "not published, the program would refuse it: discount from Stardust" in refused.err
    assert shop("config", "show", "--json").json["version"] == 3
    assert shop("config", "rollback", "1", "--settings", program).code == 0
    assert shop("config", "show", "--json").json["items"] == []
    assert "no version 9" in shop("config", "rollback", "9", "--settings", program).err


def test_a_required_field_that_is_nowhere_names_variable_and_key(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "x=1")
    result = shop("config", "check", "shop_settings:Needy")
    assert result.code == 1
    assert 'error: region: missing, set REGION or "region" in Stardust' in result.out


def test_warnings_fail_only_when_asked_to(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "strange=1", "port=9")
    lax = shop("config", "check", program)
    assert lax.code == 0
    assert 'warning: key "strange" of the center belongs to no field' in lax.out
    assert "warning: port: is marked Local" in lax.out
    assert shop("config", "check", program, "--strict").code == 1


def test_what_needs_a_restart_is_said(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "workers=4", "discount=1")
    assert "warning: workers: takes effect after a restart\n" in shop("config", "check", program).out


def test_show_tells_where_each_value_comes_from(
    shop: Callable[..., Result], program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop("config", "set", "discount=20", "database.host=db9", "api_key=planted-secret", "--publish")
    monkeypatch.setenv("SHOP_DATABASE__POOL", "9")
    monkeypatch.setenv("SHOP_DISCOUNT", "7")
    found = {row["path"]: row for row in shop("config", "show", program, "--sources", "--json").json["values"]}
    assert (found["discount"]["value"], found["discount"]["source"]) == ("7", "env SHOP_DISCOUNT")
    assert found["discount"]["shadowed"][0] == {"source": 'stardust shop v2 key "discount"', "value": "'20'"}
    assert found["database.host"]["source"] == 'stardust shop v2 key "database.host"'
    assert found["database.pool"]["source"] == "env SHOP_DATABASE__POOL"
    assert found["port"]["source"] == "default"
    text = shop("config", "show", program, "--sources").out
    assert "env SHOP_DISCOUNT" in text
    assert "planted" not in text + str(found)


@pytest.mark.case("C71")
def test_explain_is_about_one_setting_or_all(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=20", "--publish")
    one = shop("config", "explain", program, "discount")
    assert one.out == 'discount = 20   from stardust shop v2 key "discount"\n  shadowed: default = 0\n'
    assert shop("config", "explain", program).out.count(" from ") == 6
    wrong = shop("config", "explain", program, "databse.pool")
    assert wrong.code == 2
    assert "did you mean 'database.pool'?" in wrong.err


def test_the_difference_in_settings_not_in_keys(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "Database:Pool=6", "api_key=planted1", "--publish")
    shop("config", "set", "database.pool=7", "Database:Pool=7", "api_key=planted2")
    found = shop("config", "diff", program, "--json")
    assert found.json == {
        "database.pool": {"old": "6", "new": "7"},
        "api_key": {"old": "***", "new": "***"},
    }
    shop("config", "set", "discount=5", "--scope", "prod", "--publish")
    assert shop("config", "diff", program, "--scope", "..prod", "--json").json == {"discount": {"old": "0", "new": "5"}}


def test_values_that_the_class_refuses_are_one_line(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=planted", "--publish")
    for word in ("show", "explain"):
        result = shop("config", word, program)
        assert result.code == 0
        assert "stardustctl: Settings refuses these values: discount from Stardust shop v2" in result.err
        assert "planted" not in result.err


def test_sources_are_explained_while_the_class_refuses_their_values(
    shop: Callable[..., Result], program: str
) -> None:  # the moment of repair
    shop("config", "set", "discount=many", "--publish")
    found = shop("config", "explain", program, "discount", "database.pool")
    assert "discount = 'many'   from stardust shop v2 key \"discount\"" in found.out
    assert "database.pool = " in found.out
    assert shop("config", "explain", program, "databse.pool").code == 2
    shop("config", "set", "discount=0.5")
    assert shop("config", "diff", program, "--json").json == {"discount": {"old": "'many'", "new": "'0.5'"}}


def test_keys_need_no_server(ctl: Callable[..., Result], program: str) -> None:
    rows = ctl("config", "keys", program, "--json").json
    assert [row["key"] for row in rows] == ["database:host", "database:pool", "discount", "api_key", None, "workers"]
    assert "database:pool" in ctl("config", "keys", program).out
    assert ctl("config", "keys", program, "--format", "md").out.startswith("### Settings\n")


def test_a_class_can_be_named_by_its_file(ctl: Callable[..., Result], program: str, own_place: Path) -> None:
    folder = own_place / "elsewhere"
    folder.mkdir()
    (folder / "more.py").write_text("from beside import Settings\n")
    (folder / "beside.py").write_text((own_place / "shop_settings.py").read_text())
    assert ctl("config", "keys", "elsewhere/more.py:Settings", "--json").code == 0


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("shop_settings", "does not name a settings class"),
        ("shop_settings:Wrong", "shop_settings has no Wrong; it has Needy, Settings"),
        ("shop_settings:Database", "is not a settings class"),
        ("nowhere.at_all:Settings", "no module named 'nowhere'"),
        ("nowhere.py:Settings", "there is no file nowhere.py"),
        ("broken:Settings", "cannot import broken: ValueError: no luck"),
        ("ending:Settings", "it ends the process"),
    ],
)
def test_a_class_that_cannot_be_used_is_exit_code_2(
    ctl: Callable[..., Result], program: str, own_place: Path, spec: str, line: str
) -> None:
    (own_place / "broken.py").write_text("raise ValueError('no luck')\n")
    (own_place / "ending.py").write_text("import sys\nsys.exit(3)\n")
    result = ctl("config", "keys", spec)
    assert (result.code, result.out) == (2, "")
    assert line in result.err
    assert result.err.count("\n") == 1


def test_an_unresolvable_reference_is_not_published(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=20", "--publish")
    shop("config", "set", "greeting=${nothing}")
    result = shop("config", "publish")
    assert (result.code, result.out) == (1, "")
    assert "nothing" in result.err
    assert shop("config", "show", program).code == 0
    check = shop("config", "check", program)
    assert check.code == 1
    assert check.out.startswith("error: nothing can be published: ")
    assert "[nothing]" in check.out
    for words in (["show", "--staged"], ["explain", "--staged"], ["diff"]):
        told = shop("config", words[0], program, *words[1:])
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("stardustctl: what is staged cannot be published: ")


def test_references_are_checked_as_they_will_be_published(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "base=150", "--publish")
    shop("config", "set", "discount=${base}")
    assert (
        'error: discount from Stardust shop v3 key "discount": Input should be less'
        in shop("config", "check", program).out
    )
    shop("config", "set", "base=15")
    assert shop("config", "check", program).code == 0
    shown = shop("config", "show", program, "--staged", "--json").json["values"]
    assert next(row["value"] for row in shown if row["path"] == "discount") == "15"
    assert shop("config", "diff", program, "--json").json == {"discount": {"old": "0", "new": "15"}}
    assert shop("config", "diff", "--json").json["discount"] == {"old": None, "new": "15"}
    shop("config", "publish", program)
    shop("config", "set", "base=99")  # not a key of the class, but one that its key refers to
    assert shop("config", "publish", program).code == 1
