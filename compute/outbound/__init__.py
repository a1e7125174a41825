"""Requests to addresses that a user names: only public hosts are connected to, and every answer is bounded."""
