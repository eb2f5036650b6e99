"""Drills: the loss of a whole system practised, from what a scenario leaves of targets, keys and time."""
