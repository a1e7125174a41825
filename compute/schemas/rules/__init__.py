"""Rules that many fields share, and the sentences that tell of what breaks one."""
