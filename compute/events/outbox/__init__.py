"""The event log and the webhook outbox, written in the transaction that changed the row."""
