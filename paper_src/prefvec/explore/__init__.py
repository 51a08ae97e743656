"""The explorer: two models steered side by side, in a page (notebooks/explore.ipynb)."""
