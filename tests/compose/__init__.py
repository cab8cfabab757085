"""The deployment by compose, started for real and judged from outside (`make test-compose`)."""
