"""This computer: its processes, started, found again and stopped."""
