"""`compute doctor`: finds what is wrong with a set-up, all at once, and says how to mend it."""
