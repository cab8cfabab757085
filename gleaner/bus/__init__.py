"""The contract: what may be said, under which topic, by whom; and the ways to say it."""
