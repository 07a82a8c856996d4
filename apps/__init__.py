"""For people and programs: the command line."""
