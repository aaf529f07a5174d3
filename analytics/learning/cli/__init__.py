"""Verbs of the command line that learning brings."""
