"""Training a promptable segmenter (paper App. A, "Training algorithm")."""
