"""Headrace: operators over frames, by purpose."""
