"""/providers: who does work elsewhere, and the calls that are paid for it."""
