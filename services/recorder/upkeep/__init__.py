"""What goes when, and what is made anew: retention, room, older layouts."""
