"""The client when connections break: what it makes, loses and repeats, beside other clients."""
