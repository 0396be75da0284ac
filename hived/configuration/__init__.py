"""What the user has written down: configuration.json and the environment."""
