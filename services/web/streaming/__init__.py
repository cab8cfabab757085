"""The live stream: what changed goes to all who watch."""
