"""The command ``headrace``: one file a verb."""
