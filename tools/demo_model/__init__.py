"""The demo model: illustrations of garments, and the small model that is trained on them."""
