"""What the recorder knows, in a terminal and as files."""
