"""What readings come to, and how that lies in the database: whole numbers, packed; pure."""
