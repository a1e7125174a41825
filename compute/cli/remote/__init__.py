"""Commands that talk to a server, by the client of `compute.client`."""
