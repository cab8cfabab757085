"""What is asked about the past, and how it is answered."""
