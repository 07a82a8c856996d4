"""The ways from a phrase to masks, and the scoring that they share; see :mod:`adapters.text`."""
