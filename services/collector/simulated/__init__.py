"""Nodes, people and processes that do not exist, seen by the real pipeline."""
