"""Data sets of trainings: unpacked, checked, transformed and sorted into buckets. No Ray, no torch."""
