"""The fleet as it is, in a terminal or as a static page."""
