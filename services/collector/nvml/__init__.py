"""What the driver says of GPUs, asked by NVML in a process of its own."""
