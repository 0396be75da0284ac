"""What the daemon decides. Pure: no I/O, no clock, no async; every function can be called with literals."""
