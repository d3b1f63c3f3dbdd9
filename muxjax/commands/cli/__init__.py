"""The command line: the flags of each command, in the groups that its help shows."""
