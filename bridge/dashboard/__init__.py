"""The dashboard: one web server beside a run, and the page that it serves.

Everything here needs the extra ``dashboard``, except this file.
"""
