"""Measuring Lifeboat against what people use without it, side by side on one machine: `make bench`."""
