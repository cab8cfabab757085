"""`gleaner up`: everything on one machine, as child processes."""
