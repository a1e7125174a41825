"""HTTP itself, before any route: hosts, addresses, methods, bodies (RFC 9110)."""
