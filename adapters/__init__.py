"""Adapters: a request becomes prompts, the decoder answers, and the answer becomes a result."""
