"""What there is to do, what was done, and by whom: read from counts that triggers keep, whatever the number of rows."""
