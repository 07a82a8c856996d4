"""How well a model finds labelled segments from simulated prompts (paper App. D.1)."""
