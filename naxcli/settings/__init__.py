"""Settings: flags over environment over TOML over defaults, checked and frozen."""
