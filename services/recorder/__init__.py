"""The recorder: events of all nodes into a database, each exactly once, and answers about them."""
