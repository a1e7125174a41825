"""Webhooks: signed, sent, retried and logged until their receiver has them."""
