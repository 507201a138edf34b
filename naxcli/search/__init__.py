"""The search loop: ask, evaluate, record, tell."""
