"""Being installed as a user service. For now only the templates that the wheel carries."""
