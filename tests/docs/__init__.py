"""The documentation says what is so: its recipes run as they stand, its commands exist."""
