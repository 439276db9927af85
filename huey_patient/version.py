"""The version, where setup.py and the User-Agent read it."""

__version__ = "0.1.0"
