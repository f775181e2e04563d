"""What a release promises: the public surface, the changelog, the version, what is packaged."""
