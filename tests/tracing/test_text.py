"""Names and redaction: bounded, and never a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stardust_auto.instrumentation.kit.database import DbCall, SqlNames
from stardust_auto.instrumentation.kit.inbound import InboundRequest
from stardust_auto.instrumentation.kit.outbound import HttpCall
from stardust_auto.instrumentation.redis.commands import CommandNames, RedisCall
from stardust_auto.tracing.naming import HttpNames, PathNames
from stardust_auto.tracing.propagation import PropagationRule, extract, format_traceparent
from stardust_auto.tracing.redaction import error_text, redact_sql, redact_text, redact_url
from stardust_auto.tracing.span import SpanContext


@pytest.mark.case("R27")
@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://user:pw@Host:80/api/v1/users/123?x=1", "http://host/api/v1/users"),
        ("https://h/", "https://h"),
        ("https://h", "https://h"),
        ("https://h:443/a#frag", "https://h/a"),
        ("http://h/a-very-very-long-segment/x", "http://h"),
        ("http://[::1]:8080/a/b/", "http://[::1]:8080/a/b"),
        ("http://h?x=1", "http://h"),
        ("not a url", "http:(no host)"),
        ("http+unix://%2Frun%2Fx.sock/v1", "http+unix://%2frun%2fx.sock/v1"),
    ],
)
def test_http_names(url, name):
    assert HttpNames()[url] == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "/"),
        ("", "/"),
        ("/a/b/c", "/a/b"),
        ("/users/12/x", "/users"),
        ("//x", "/x"),
        ("/a?b=1", "/a"),
        ("/é/中文", "/é/中文"),
    ],
)
def test_path_names(path, name):
    assert PathNames()[path] == name


@pytest.mark.case("S18", "S30")
@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("select * from orders where a=1", "Select:orders"),
        ("  -- c\n SELECT 1", "Select"),
        ("", "Empty"),
        ("/* only */", "Empty"),
        ('INSERT OR REPLACE INTO main."Order_202401" VALUES (1)', "Insert:Order"),
        ("pragma table_info(x)", "Pragma:table_info"),
        ("CREATE TABLE IF NOT EXISTS t (a)", "Create:t"),
        ("DELETE FROM `t`", "Delete:t"),
        ("update [x] set a=1", "Update:x"),
        ("BEGIN IMMEDIATE", "Begin"),
        ("select * from 中文", "Select:中文"),
    ],
)
def test_sql_names(sql, name):
    assert SqlNames("shop")[sql] == f"db:shop:{name}"


def test_command_names_are_upper_case():
    assert CommandNames("h/0")["get"] == "redis:h/0:GET"


@pytest.mark.case("S29")
@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("a='x''y' and b=12.5e3 and c in (1,2,3)", "a=? and b=? and c in (?)"),
        ("x=1 -- the password\n and y=2", "x=? and y=?"),
        ("d=$$abc$$ and e=$tag$it's$tag$ and f=x'ff' and g=:p and h=?", "d=? and e=? and f=? and g=:p and h=?"),
        (
            'select "name" from "t" where "a" = "hunter2" and b like "abc%"',
            'select ? from "t" where ? = ? and b like ?',  # SQLite takes "name" for text where there is no such column
        ),
        ('x in ("s1", "s2")', "x in (?)"),
        ("insert into t(a,b) values (1,'a'),(2,'b')", "insert into t(a,b) values (?)"),
        ("insert into t values ('never closed", "insert into t values (?"),
        ("select t1.c2 from t1", "select t1.c2 from t1"),
        (r"a = E'it\'s secret' and b='more'", "a = ? ..."),
        ("/* secret */ select 0x1F", "select ?"),
    ],
)
def test_sql_is_stored_without_literals(sql, shown):
    assert redact_sql(sql) == shown


@given(
    st.lists(
        st.sampled_from(["'", "''", '"', "--", "/*", "*/", "$$", "\\", "\n", " ", "=", "x", "(", ",", "1"]), max_size=30
    )
)
def test_a_text_literal_never_survives(pieces):
    """Whatever stands around it, the content of a single-quoted literal of a valid statement is gone."""
    content = "".join(pieces).replace("'", "''").replace("\\", "")
    assert "hunter2" not in redact_sql(f"select a from t where b = '{content} hunter2 {content}' and c = 1")


@pytest.mark.case("S30")
@pytest.mark.parametrize(
    "text",
    [
        "(" * 2_000_000,
        "'" * 1_000_000,
        "/*" * 500_000,
        "$a" * 500_000,
        " " * 1_000_000,
        "a." * 500_000,
        "?a=b" * 300_000,
    ],
)
def test_only_the_head_of_a_megabyte_is_read(text):
    # what lies behind the head makes no difference, so it costs nothing.
    tail = " from other where password = 'x' -- "
    assert SqlNames("x")[text] == SqlNames("x")[text + tail]
    for function in (redact_sql, redact_text, redact_url):
        assert function(text) == function(text + tail)
        assert len(function(text)) <= 8100


@pytest.mark.case("R26")
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h/x?token=abc&b=2#f", "https://h/x?token=?&b=?"),
        ("/x?sig=1&flag", "/x?sig=?&?"),
        ("http://h/p;a=1/q;b/r;c=2?d", "http://h/p;a=?/q;b/r;c=???"),
        ("http://h", "http://h"),
    ],
)
def test_urls_are_stored_without_values(url, shown):
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Max retries exceeded with url: /x?api_key=hunter2 (Caused by)",
        "cannot connect postgres://me:hunter2@db/x",
        "password='hunter2', x",
        "Authorization: Bearer hunter2",
        "client_secret=hunter2",
        '{"token": "hunter2"}',
    ],
)
def test_messages_are_stored_without_secrets(text):
    assert "hunter2" not in redact_text(text)
    assert "hunter2" not in error_text(ValueError(text))


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_no_text_makes_naming_or_redaction_raise(text):
    for names in (HttpNames(), PathNames(), SqlNames(text), CommandNames("x")):
        assert isinstance(names[text], str)
        assert len(names[text]) <= 200
    for function in (redact_sql, redact_text, redact_url):
        assert isinstance(function(text), str)


def headers(**values: str):
    return {name.replace("_", "-").lower(): value for name, value in values.items()}.get


def read(**values: str) -> SpanContext | None:
    return extract(lambda name: headers(**values)(name.lower()))


W3C = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.case("W24")
@pytest.mark.parametrize(
    ("value", "context"),
    [
        (W3C, ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)),
        (W3C[:-2] + "00", ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 0)),
        (
            "00-c000020217954943803450003e13da-c000020213da0004-01",
            ("c000020217954943803450003e13da", "c000020213da0004", 1),
        ),
        ("01" + W3C[2:] + "-what-the-future-will-be", ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)),
        ("ff" + W3C[2:], None),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", None),
        (W3C + "," + W3C, None),
        (W3C + "-extra", None),
        (W3C[:-2] + "zz", None),
        ("00-" + "a" * 51 + "-b7ad6b7169203331-01", None),
        ("garbage", None),
        ("00", None),
        ("00--b7ad6b7169203331-01", None),
        ("00-a\x00b-b7ad6b7169203331-01", None),
    ],
)
def test_traceparent(value, context):
    # protocol.md §5.2
    found = read(traceparent=value)
    assert (found and (found.trace_id, found.span_id, found.flag)) == context


def test_the_other_headers_of_the_platform():
    assert read(Request_Id="|abc.def_123.") == SpanContext("abc", "123")
    assert read(Eagleeye_Traceid="abc-12") == SpanContext("abc", "12")
    assert read(TraceId="abc") == SpanContext("abc", "")
    assert read(TraceId=W3C) == read(traceparent=W3C)
    assert read(traceparent=W3C, Request_Id="|x.y") == read(traceparent=W3C)
    assert read() is None


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=80))
def test_no_header_raises(text):
    found = read(traceparent=text, Request_Id=text, Eagleeye_Traceid=text, TraceId=text)
    assert found is None or extract({"traceparent": format_traceparent(found)}.get) is not None or not found.span_id


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("8.8.8.8", False),
        ("localhost", True),
        ("stock", True),
        ("db.svc.cluster.local", True),
        ("star.example.com", True),
        ("api.example.com", True),
        ("example.com.evil.org", False),
        ("api.other.com", False),
        ("a.shop.com.cn", True),
        ("b.other.com.cn", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts_that_may_receive_trace_headers(host, allowed):
    assert PropagationRule(own_domains=("star.example.com", "x.shop.com.cn")).allows(host) is allowed


def test_an_allow_list_replaces_the_default():
    rule = PropagationRule(("*.partner.com", "exact.org"))
    assert [rule.allows(host) for host in ("a.partner.com", "exact.org", "not.exact.org", "127.0.0.1")] == [
        True,
        True,
        False,
        False,
    ]
    assert not PropagationRule(("none",)).allows("localhost")


def test_records_tell_what_happened_without_values():
    assert HttpCall("GET", "http://u:p@h/x?a=1", 503, 2).tag() == "GET http://h/x?a=?\r\nstatus: 503\r\nredirects: 2"
    assert DbCall("select 'x'", many=True).tag() == "executemany: select ?"
    assert RedisCall("h:6379/0", ("GET",)).tag() == "h:6379/0 GET"
    assert RedisCall("h:6379/0", ("SET", "GET", "SET"), 1).tag() == "h:6379/0 3 commands: SET x2, GET\r\nfailed: 1"
    assert InboundRequest("10.0.0.9", "GET", "/a", "k=v", "200 OK").tag() == "10.0.0.9 GET /a?k=?\r\nstatus: 200 OK"
