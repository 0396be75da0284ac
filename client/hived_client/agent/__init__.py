"""The agent's side: calls to models, agent folders, and what runs them. Imported when it is used."""
