"""Measurements that print their figure, its goal and the peer beside it; never a test."""
