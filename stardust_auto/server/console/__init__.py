"""The console: pages for people, a JSON interface for ``stardustctl``."""
