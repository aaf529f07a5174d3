"""Suites that hold somebody's transport, engine or operator to what Headrace promises."""
