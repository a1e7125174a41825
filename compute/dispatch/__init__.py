"""From accepted rows to running work and back: the only part that claims, retries and settles."""
