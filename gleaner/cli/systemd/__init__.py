"""`gleaner install` and `uninstall`: the same as services of systemd."""
