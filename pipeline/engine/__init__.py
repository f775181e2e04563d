"""The engine: what it is told, how it is started, and what ends it."""
