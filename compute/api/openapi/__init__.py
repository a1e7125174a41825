"""The OpenAPI document: what the framework makes of the routes, in the words and shapes that clients are made from."""
