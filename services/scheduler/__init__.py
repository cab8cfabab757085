"""The scheduler: idle GPUs -> signed wishes for each node, and a reason for every no."""
