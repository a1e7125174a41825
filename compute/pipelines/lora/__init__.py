"""LoRAs on a loaded transformer: switched per request, without merging weights."""
