"""Fairlift: a study goes in, a launch decision comes out."""

__version__ = "0.1.0"
