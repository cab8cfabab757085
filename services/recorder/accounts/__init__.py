"""What samples come to, added up in the database: sums, use, sessions."""
