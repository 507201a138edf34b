"""`python -m naxcli`."""

from __future__ import annotations

from naxcli.cli import main

if __name__ == "__main__":
    main()
