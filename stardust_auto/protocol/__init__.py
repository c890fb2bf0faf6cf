"""The wire: typed messages, transport, session, push and reporting. Knows nothing of pydantic models or integrations."""
