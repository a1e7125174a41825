"""Paid calls: a ledger that knows each of them before it leaves, and what was made of it."""
