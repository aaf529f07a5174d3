"""Suites that hold somebody's transport, engine, operator or adapter to what Headrace promises."""
