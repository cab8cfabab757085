"""Whose process it is that holds a GPU, and for whom it runs."""
