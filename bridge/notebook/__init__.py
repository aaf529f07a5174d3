"""A run in Jupyter: its reduced space and some of its numbers, live, below the cell.

The widget comes with the extra ``notebook``; everything that it shows is drawn by a script of this
package, and nothing is fetched from anywhere.
"""

from bridge.notebook.watching import watch

__all__ = ["watch"]
