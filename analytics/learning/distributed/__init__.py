"""Workers that train one model together."""
