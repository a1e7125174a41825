"""Webhooks: signed, sent, retried and logged until the receiver has accepted them."""
