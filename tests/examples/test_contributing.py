"""The worked integration of CONTRIBUTING.md: its very text, as a distribution of its own, on a real mail server."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _kit.examples import Place

GUIDE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"

PROGRAM = """
import smtplib, sqlite3, sys  # a library that comes with an integration brings in those of others
for attempt in range(3):
    with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as mail:
        try:
            print(mail.sendmail("a@example.com", ["planted@example.com"], "Subject: planted\\r\\n\\r\\nplanted"))
        except smtplib.SMTPRecipientsRefused as error:
            print(type(error).__name__)
print(smtplib.SMTP.sendmail.__name__, smtplib.SMTP.sendmail.__module__)
"""


CLOCK = """
import smtplib
import stardust_auto.testing as testing
class Slow(smtplib.SMTP):
    def __init__(self):
        self._host = "slow"
plain = smtplib.SMTP.sendmail
smtplib.SMTP.sendmail = lambda self, *args: time_passes()
with testing.capture() as spans:
    time_passes = lambda: spans.clock.advance(0.5) or {}
    Slow().sendmail("a", "b", "c")
(span,) = [one for one in spans.spans if one.name == "smtp:slow"]
print(span.duration_ns // 1_000_000)
"""


class _Mail(socketserver.StreamRequestHandler):
    """A mail server that refuses every third message."""

    count = 0

    def handle(self) -> None:
        self._say("220 ready")
        for line in self.rfile:
            word = line.split()[0].upper() if line.split() else b""
            if word == b"QUIT":
                self._say("221 bye")
                return
            if word == b"RCPT":
                type(self).count += 1
                self._say("550 no" if type(self).count == 3 else "250 ok")
            elif word == b"DATA":
                self._say("354 go on")
                while self.rfile.readline() != b".\r\n":
                    pass
                self._say("250 ok")
            else:
                self._say("250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


@contextmanager
def _mail_server() -> Iterator[int]:
    _Mail.count = 0
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail) as server:
        worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        worker.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            worker.join()


def _distribution(folder: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    code = re.search(r"<!-- example: smtp_tracing.py -->\n```python\n(.*?)```", text, re.DOTALL)
    entry = re.search(r"```toml\n\[project.entry-points.\"([^\"]+)\"\]\n(\w+) = \"([^\"]+)\"", text)
    assert code is not None
    assert entry is not None
    (folder / "smtp_tracing.py").write_text(code[1])
    metadata = folder / "smtp_tracing-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: smtp-tracing\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{entry[1]}]\n{entry[2]} = {entry[3]}\n")


def test_the_integration_of_the_guide_works(place: Place, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    _distribution(packages)
    program = tmp_path / "mailer.py"
    program.write_text(PROGRAM)
    place.environ["PYTHONPATH"] = os.pathsep.join([str(packages), place.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    with _mail_server() as port:
        command = [*place.command("basic/basic.py", summary=True)[:-1], str(program), str(port)]
        done = place.run(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{}", "{}", "SMTPRecipientsRefused", "sendmail smtplib"]
    row = next(line.split() for line in done.stderr.splitlines() if line.startswith("smtp:127.0.0.1"))
    assert row[1:3] == ["3", "1"]
    spans = [span for trace in place.ctl_json("traces") for span in place.ctl_json("trace", trace["trace_id"])["spans"]]
    tags = [span["tag"] for span in spans if span["name"].startswith("smtp:")]
    assert "0 recipients refused" in tags
    assert not any("planted" in tag for tag in tags)
    # Doctor gives the interpreter 5 s, which a busy machine needs for the imports alone.
    patient = "from stardust_auto.ctl import doctor, main\ndoctor.LIMIT_SECONDS = 60.0\nraise SystemExit(main())"
    libraries = json.loads(place.run(sys.executable, "-c", patient, "doctor", "--json").stdout)["libraries"]
    assert ("smtplib", "hooked") in {(row["library"], row["state"]) for row in libraries}


def test_the_integration_of_the_guide_goes_by_the_clock_of_a_test(tmp_path: Path) -> None:
    _distribution(tmp_path)
    program = tmp_path / "program.py"
    program.write_text(CLOCK)  # beside the distribution, so that both are found
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["501"], done.stderr  # and one millisecond for the second look at the clock
