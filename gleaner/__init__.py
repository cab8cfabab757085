"""Gleaner shows who uses every GPU, and puts the idle ones to work."""

__version__ = "0.1.0"
