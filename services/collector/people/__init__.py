"""Who is at the node, and who is active there."""
