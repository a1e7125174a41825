"""The demo model: a small world of drawn garments, and the model that is trained on it."""
