"""The fixtures of a session with a server."""

from _kit.session_fixtures import new_session, server  # noqa: F401 - fixtures
