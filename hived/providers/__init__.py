"""How each kind of server is looked at. One file a kind; nothing here decides what a look means."""
