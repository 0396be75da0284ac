"""The one version of client and daemon."""

__version__ = "0.1.0"
