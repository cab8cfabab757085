"""An index of whom and what events name."""
