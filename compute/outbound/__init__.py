"""Requests to addresses named by users: connects only to public hosts, and bounds every response."""
