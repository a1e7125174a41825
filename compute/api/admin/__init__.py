"""/admin: keys, tenants and the audit log."""
