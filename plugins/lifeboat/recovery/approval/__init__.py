"""Restores by two people: what is asked for, who said yes to exactly that, and whether it may begin."""
