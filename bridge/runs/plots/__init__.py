"""Pictures of a finished run, drawn with matplotlib from the files in its folder."""

from bridge.runs.plots.draw import draw_plots

__all__ = ["draw_plots"]
