"""Files of a hosted Space."""
