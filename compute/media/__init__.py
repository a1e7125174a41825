"""Images sent or named by users: fetched, checked, decoded to 8-bit sRGB, and encoded again."""
