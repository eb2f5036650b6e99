"""The recovery kit: what a restore needs when all else is lost, in one file."""
