"""The promptable segmenter and nothing else: tensors in, tensors out (paper §3)."""
