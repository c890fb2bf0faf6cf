"""``docs/privacy.md``, and its Chinese twin, say what leaves the process: its tables are made of what the code does, and are checked here.

Write them anew with ``UPDATE_DOCS=1 python -m pytest tests/test_privacy_page.py``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from stardust_auto.instrumentation.kit.database import DbCall, SqlNames
from stardust_auto.instrumentation.kit.inbound import InboundRequest
from stardust_auto.instrumentation.kit.outbound import HttpCall, HttpNames
from stardust_auto.instrumentation.redis.commands import CommandNames
from stardust_auto.privacy import mask_command_line, mask_value
from stardust_auto.tracing.naming import PathNames
from stardust_auto.tracing.redaction import error_text, redact_sql

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"en": DOCS / "privacy.md", "zh": DOCS / "zh" / "privacy.md"}
SECRET = "hunter2"


class Row(NamedTuple):
    """What the program does, and what is sent of it."""

    seen: str
    send: Callable[[str], str]

    @property
    def sent(self) -> str:
        return self.send(self.seen)


def sql(text: str) -> str:
    return DbCall(text).tag()


def sql_name(text: str) -> str:
    return SqlNames("shop")[text]


def outbound(url: str) -> str:
    return HttpCall("GET", url).tag()


def outbound_name(url: str) -> str:
    return HttpNames()[url]


def inbound(target: str) -> str:
    path, _, query = target.partition("?")
    return InboundRequest("10.0.0.9", "GET", path, query).tag()


def inbound_name(target: str) -> str:
    return str(PathNames()[target.partition("?")[0]])


def redis_name(command: str) -> str:
    return CommandNames("cache/0")[command.split(maxsplit=1)[0]]


def message(text: str) -> str:
    return error_text(RuntimeError(text)).replace("\r\n", " ")


def command_line(text: str) -> str:
    return mask_command_line(text.split())


def value(text: str) -> str:
    name, _, content = text.partition(" = ")
    return f"{name} = {mask_value(name, content)}"


TABLES: dict[str, tuple[Row, ...]] = {
    "SQL": (
        Row("SELECT name FROM users WHERE mail = 'hunter2' AND age > 40", sql),
        Row("SELECT name FROM users WHERE mail = 'hunter2'", sql_name),
        Row("INSERT INTO t (a, b) VALUES (?, 'hunter2'), (?, 'hunter2')", sql),
        Row('INSERT INTO "t" ("a", "b") VALUES (NULL, "hunter2")', sql),
        Row('UPDATE "t" SET "a" = "hunter2" WHERE "t"."id" = :id', sql),
        Row('SELECT lower("hunter2"), a || "hunter2" FROM t', sql),
        Row("SELECT a /* hunter2 */ FROM t -- hunter2", sql),
        Row("SELECT $tag$hunter2$tag$, E'it\\'s hunter2', x", sql),
        Row("PRAGMA key=hunter2", sql),
        Row("PRAGMA rekey(hunter2)", sql),
        Row('ATTACH DATABASE "f.db" AS x KEY "hunter2"', sql),
        Row("CREATE USER u IDENTIFIED BY hunter2", sql),
    ),
    "Requests that the program sends": (
        Row("https://user:hunter2@api.example.com/v1/users/42?token=hunter2&page=2#hunter2", outbound),
        Row("https://user:hunter2@api.example.com/v1/users/42?token=hunter2&page=2#hunter2", outbound_name),
        Row("https://h/x?v2&sig=hunter2&hunter2", outbound),
        Row("https://h/x;jsessionid=hunter2/y", outbound),
    ),
    "Requests that the program answers": (
        Row("/orders/17?mail=hunter2&hunter2", inbound),
        Row("/orders/17?mail=hunter2", inbound_name),
    ),
    "Redis": (Row("SET session:42 hunter2", redis_name),),
    "Messages of exceptions": (
        Row("password='hunter2', host='db'", message),
        Row("passphrase=hunter2 pass=hunter2 private_key=hunter2", message),
        Row("access_key=hunter2 session_id=hunter2 jwt=hunter2", message),
        Row('Authorization: Digest username="a", response="hunter2"', message),
        Row("Cookie: a=1; session=hunter2", message),
        Row("cannot connect to postgres://me:p@hunter2@db/shop", message),
        Row("Max retries exceeded with url: /a?v2&sig=hunter2 (Caused by ...)", message),
        Row("Max retries exceeded with url: /a?$filter=hunter2&b='hunter2')x (Caused by ...)", message),
        Row("Command # 1 (HSET list key hunter2) of pipeline caused error: WRONGTYPE", message),
        Row("unknown command 'FOO', with args beginning with: 'hunter2'", message),
        Row("UNIQUE constraint failed [SQL: INSERT INTO t VALUES ('hunter2')]", message),
        Row("[parameters: ('hunter2', 3)]", message),
        Row("Key (mail)=(hunter2) already exists.", message),
        Row("Duplicate entry 'hunter2' for key 'users.mail'", message),
        Row('unrecognized token: "hunter2"', message),
        Row('near "hunter2": syntax error', message),
        Row("Command '['mysql', '--password', 'hunter2']' returned 1", message),
        Row("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.c2ln", message),
    ),
    "The command line": (
        Row("app.py --password hunter2 --port 80", command_line),
        Row("app.py --api-key=hunter2 redis://:hunter2@h", command_line),
    ),
    "Settings, where they are shown": (
        Row("database.password = hunter2", value),
        Row("database.url = mysql://root:hunter2@db/shop", value),
        Row("main = Server=db;User=root;Password=hunter2;Pool=5", value),
    ),
}
ROWS = [row for rows in TABLES.values() for row in rows]


def code(text: str) -> str:
    return "`` " + text.replace("|", "\\|").replace("\r\n", " ") + " ``"


def table(title: str) -> str:
    return "".join(f"| {code(row.seen)} | {code(row.sent)} |\n" for row in TABLES[title])


@pytest.mark.parametrize("row", ROWS, ids=[row.seen for row in ROWS])
def test_nothing_secret_is_in_what_is_sent(row: Row) -> None:
    assert SECRET not in row.sent


@pytest.mark.parametrize("language", PAGES)
def test_the_page_says_what_the_code_does(language: str) -> None:
    page = PAGES[language]
    text = page.read_text(encoding="utf-8")

    def anew(match: re.Match[str]) -> str:
        return f"{match[1]}{table(match[2])}{match[3]}"

    made = re.sub(r"(<!-- table: (.*?) -->\n.*?\n\|---\|---\|\n).*?(<!-- end -->)", anew, text, flags=re.DOTALL)
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(made, encoding="utf-8")
    assert re.findall(r"<!-- table: (.*?) -->", text) == list(TABLES)
    assert made == text


def test_both_languages_have_the_same_sections_and_items() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES.values())
    for mark in ("\n## ", "\n* "):
        assert chinese.count(mark) == english.count(mark), mark


PLANTED_SQL = [
    'VALUES(NULL,"hunter2")',
    'select :param, "hunter2"',
    'select f(1, "hunter2")',
    'select 1 where a = lower("hunter2")',
    'select a is distinct from "hunter2"',
    "select trim(both 'x' from \"hunter2\")",
    'select a in (?, "hunter2")',
    'select a in (?, ?, "hunter2", "hunter2")',
    'select "hunter2"',
    'select "hunter2", a from t',
    'select case when a then "hunter2" else "hunter2" end',
    'select a from t where b like "hunter2%" escape "x"',
    'select "it""s hunter2"',
    'select "it\\"s hunter2", "hunter2"',
    "select 1 # hunter2\n, 2",
    "select q'[it's hunter2]', nq'{hunter2}' from dual",
    "select `a b hunter2`, [a-hunter2]",
    "attach database ? as x key hunter2",
    "pragma main.key = 'hunter2'; pragma hexrekey=hunter2; pragma cipher_salt=hunter2",
    'insert into t(a) select "hunter2"',
    'update t set a = a + "hunter2", b = "hunter2"',
    "select 'never closed hunter2",
    'select "never closed hunter2',
    "select /* never closed hunter2",
]


@pytest.mark.parametrize("statement", PLANTED_SQL)
def test_no_literal_of_a_statement_is_sent(statement: str) -> None:
    assert SECRET not in redact_sql(statement)
    assert SECRET not in SqlNames("x")[statement]


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        (
            'SELECT "u"."id", "u"."name" FROM "u" INNER JOIN "g" ON ("u"."g" = "g"."id") WHERE "u"."id" = %s ORDER BY "u"."id" LIMIT 21',
            'SELECT "u"."id", "u"."name" FROM "u" INNER JOIN "g" ON ("u"."g" = "g"."id") WHERE "u"."id" = %s ORDER BY "u"."id" LIMIT ?',
        ),
        ('INSERT INTO "s"."t" ("a", "b") VALUES (%s, %s)', 'INSERT INTO "s"."t" ("a", "b") VALUES (%s, %s)'),
        (
            'UPDATE "t" SET "a" = %s, "b" = %s WHERE "t"."c" = %s',
            'UPDATE "t" SET "a" = %s, "b" = %s WHERE "t"."c" = %s',
        ),
        ('DELETE FROM "t" WHERE "t"."a" IN (%s)', 'DELETE FROM "t" WHERE "t"."a" IN (%s)'),
        ('SELECT count(*) AS "n" FROM (SELECT 1 FROM "t") "x"', 'SELECT count(*) AS "n" FROM (SELECT ? FROM "t") ?'),
        ("PRAGMA journal_mode=WAL", "PRAGMA journal_mode=WAL"),
        ("PRAGMA foreign_keys(on)", "PRAGMA foreign_keys(on)"),
        ("SELECT data #> '{a}', data #>> '{b}' FROM t", "SELECT data #> ?, data #>> ? FROM t"),
    ],
)
def test_what_object_mappers_write_stays_readable(statement: str, shown: str) -> None:
    assert redact_sql(statement) == shown
