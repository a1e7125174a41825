"""The ledger of paid calls in Postgres."""
