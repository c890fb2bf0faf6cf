"""The protocol as data: one description of every message, read and written by the agent and by the embedded server."""
