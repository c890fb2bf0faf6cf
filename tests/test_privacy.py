"""What is secret, in one table: names, URLs, texts, command lines."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from stardust_auto.privacy import (
    MASK,
    Secret,
    is_secret_name,
    mask_command_line,
    mask_text,
    mask_value,
    scrub,
    without_credentials,
)

ROOT = Path(__file__).parent.parent
SECRET_NAMES = """
password DB_PASSWORD dbPassword passwd pwd db_pwd passphrase passcode db_pass dbPass DB:PASS DBPASS userpass
secret client_secret clientSecret STARDUST_SECRET token access_token X-Auth-Token csrfmiddlewaretoken credential aws-credentials
Authorization Proxy-Authorization Cookie Set-Cookie session_id JSESSIONID PHPSESSID jwt signature X-Amz-Signature
api_key apiKey API-KEY apikey access_key AccessKeyId account_key private_key private-key signing_key encryption_key sshKey
connection_string ConnectionString CONN_STR sentry_dsn auth http_auth oauth pin otp card.cvv password_hash salt
数据库密码 密钥
"""
PLAIN_NAMES = """
key keyboard primary_key foreign_key partition_key compass bypass passage passenger pinned shopping author authority
authors user host port name path url query region design assign result session side salted
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_that_say_so_are_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", PLAIN_NAMES.split())
def test_names_that_only_look_alike_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:hunter2@h:6379/0", "redis://***@h:6379/0"),
        ("postgres://u:hunter2@h/db", "postgres://***@h/db"),
        ("postgres://u:p@hunter2@h/db", "postgres://***@h/db"),
        ("postgres://u:p/hunter2@h/db", "postgres://***@h/db"),
        ("postgres://u:p#hunter2@h/db", "postgres://***@h/db"),
        ("amqp://hunter2@h", "amqp://***@h"),
        ("http://h/x?mail=a@b.c", "http://h/x?mail=a@b.c"),
        ("http://h:80/x?mail=a@b.c", "http://h:80/x?mail=a@b.c"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("at http://u:hunter2@a and http://u:hunter2@b", "at http://***@a and http://***@b"),
        ("no url, a@b", "no url, a@b"),
    ],
)
def test_urls_show_no_credentials(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert mask_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "password = 'hunter2'",
        "password='hun hunter2', x",
        'password="it\'s hunter2"',
        r"password='it\'s hunter2'",
        "password='hunter2 without an end",
        "Password: hunter2",
        "password=b'x hunter2'",
        "password=SecretStr('x hunter2')",
        "pass=hunter2",
        "passphrase=hunter2",
        "private_key=hunter2",
        "access-key=hunter2",
        "session_id=hunter2",
        "jwt=hunter2",
        "sig=hunter2",
        "dsn=hunter2",
        "client_secret=hunter2",
        "api key: hunter2",
        "password=a,hunter2",
        "password=a)hunter2",
        "{'pass': 'hunter2'}",
        '{"token": "hunter2"}',
        '{"token":"hunter2","a":1}',
        "Authorization: Bearer hunter2",
        'Authorization: Digest username="hunter2", response="hunter2"',
        "Cookie: a=b; c=hunter2",
        "{'Cookie': 'a=b; c=hunter2', 'Accept': '*/*'}",
        "got Bearer hunter2abc",
        "Basic aHVudGVyMg==hunter2",
        "Command '['mysql', '--password', 'hunter2']' returned 1",
        "mysql --password hunter2 x",
        "Server=db;Password=hunter2;Pool=5",
        "cannot connect postgres://me:p@hunter2@db/x",
        "eyJhbGciOiJIUzI1NiJ9.hunter2.x",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "密码\uff1ahunter2",
    ],
)
def test_texts_show_no_secret(text: str) -> None:
    assert "hunter2" not in mask_text(text)
    assert MASK in mask_text(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Server=db;User=root;Password=hunter2;Pool=5", "Server=db;User=root;Password=***;Pool=5"),
        ("a=1&token=x&b=2", "a=1&token=***&b=2"),
        ('{"token": "x", "a": 1}', '{"token": ***, "a": 1}'),
        ("{'Cookie': 'a=b', 'Accept': '*/*'}", "{'Cookie': ***, 'Accept': '*/*'}"),
        ("Authorization: Basic abc\nnext line", "Authorization: ***\nnext line"),
        ("10 tests pass: 5 skipped", "10 tests pass: 5 skipped"),
        ("Basic authentication failed", "Basic authentication failed"),
        ("mysql --password --verbose", "mysql --password --verbose"),
        ("secret://host/x", "secret://host/x"),
        ("keyboard=qwerty compass=north", "keyboard=qwerty compass=north"),
    ],
)
def test_texts_keep_what_is_no_secret(text: str, shown: str) -> None:
    assert mask_text(text) == shown


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["app.py", "--password", "x1", "--port", "80"], "app.py --password *** --port 80"),
        (["app.py", "--api-key=x1", "-v"], "app.py --api-key=*** -v"),
        (["app.py", "--key", "x1"], "app.py --key ***"),
        (["app.py", "--oauth=x1"], "app.py --oauth=***"),
        (["app.py", "--keyboard", "us"], "app.py --keyboard us"),
        (["app.py", "DB_PASSWORD=x1"], "app.py DB_PASSWORD=***"),
        (["app.py", "postgres://u:x1@h/db"], "app.py postgres://***@h/db"),
        (["curl", "-H", "Authorization: Bearer x1"], "curl -H Authorization: ***"),
        (["app.py", "--token", "--verbose"], "app.py --token --verbose"),
        (["app.py", "--name=x"], "app.py --name=x"),
    ],
)
def test_command_lines_show_no_secret(arguments: list[str], shown: str) -> None:
    assert mask_command_line(arguments) == shown


def test_a_secret_name_hides_its_whole_value() -> None:
    assert mask_value("db:password", "any thing") == MASK
    assert mask_value("db:url", "mysql://root:hunter2@db/shop") == "mysql://***@db/shop"
    assert mask_value("db:password", "") == ""


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret("hunter2")
    assert f"{secret} {secret!r}" == "*** ***"
    assert scrub("it is hunter2", [secret, None]) == "it is ***"
    with pytest.raises(TypeError):
        secret.__reduce__()


@pytest.mark.parametrize(
    "piece", ["a://b:x", "-a", "token", "token ", "'", "password='", "key ", "eyJ-", "--a token ", "\\", "://"]
)
def test_no_text_is_slow_to_mask(piece: str) -> None:
    text = piece * (8000 // len(piece))
    started = time.process_time()
    mask_text(text)
    assert time.process_time() - started < 0.5


def test_boot_pays_for_no_expression() -> None:
    code = (
        "import sys; sys.modules.pop('re', None)\n"
        "import stardust_auto.privacy as privacy\n"
        "privacy.is_secret_name('db_pass'), privacy.without_credentials('no url')\n"
        "print('re' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"
