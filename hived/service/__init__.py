"""Being installed as a user service, under systemd and launchd.

What is written is decided by plain functions over an ``Order``; what is done to the service manager goes
through one small interface (``interface.ServiceManager``), which both have. Nothing here talks to the daemon:
that is the command's business (``hived.cli.service``).
"""
