"""Headrace: one file for each simulation code."""
