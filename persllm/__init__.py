"""Personified language models: trained, prompted, and compared on the same items."""

__version__ = "0.1.0"
