"""The server side in containers, without containers: its files, its broker, its accounts."""
