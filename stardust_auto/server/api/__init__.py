"""The platform's own protocol: one module per controller."""
