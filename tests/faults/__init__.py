"""Every fault that is recognised, provoked: against a real server, a faithful fake, or a real file."""
