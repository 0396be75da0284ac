"""hived: the daemon that knows what local models can run right now."""
