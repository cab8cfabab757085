"""From what arrives on the bus to the rows of one transaction."""
