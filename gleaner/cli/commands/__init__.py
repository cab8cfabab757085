"""The commands by what somebody wants: start, look, look back, change, examine this machine.

Here are options, help and exit codes. What a command does is in the modules of `gleaner.cli`, and
is imported when it is done: `--help` and completion must be there at once.
"""
