"""The collector: what a node's GPUs and people are doing, as facts and events on the bus."""
