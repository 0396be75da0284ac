"""The ways in: files and the socket. Nothing here decides; it reads, writes and waits."""
