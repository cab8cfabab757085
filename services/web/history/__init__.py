"""The pages of the past, and how a recorded answer becomes tables and charts."""
