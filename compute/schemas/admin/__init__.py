"""Requests and answers of /admin: keys, tenants, the audit log."""
