"""The agent side: calls, folders, runs."""
