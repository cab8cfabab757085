"""Who may load a page, and who may change something."""
