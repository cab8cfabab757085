"""Hear at once from the kernel that somebody opened a device or typed at a terminal."""
