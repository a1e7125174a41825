"""The pictures and captions of a training: unpacked, checked, transformed and sorted into buckets. No Ray, no torch."""
