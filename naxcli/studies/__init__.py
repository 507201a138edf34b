"""Observational studies of networks: what is looked at, and the numbers of it. Kept in a run's folder `studies/`."""
