"""Images that users send or name: fetched, checked and decoded to 8-bit sRGB, and encoded again."""
