"""One module for each command; ``register(app)`` adds it. Heavy imports wait until the command runs."""
