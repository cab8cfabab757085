"""Collector and runner of one node in one process, over a local bus: the usual deployment."""
