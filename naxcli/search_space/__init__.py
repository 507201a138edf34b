"""Search spaces: the public contract, loading, counting, and building networks."""
