"""Observational studies of networks: what is done to them, and what is measured then. Imports torch; reads and writes no file."""
