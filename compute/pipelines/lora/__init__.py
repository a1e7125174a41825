"""LoRAs on a warm transformer: switched per request, without merging weights."""
