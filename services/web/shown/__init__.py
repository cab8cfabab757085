"""What is shown of the fleet as it is now; pure."""
