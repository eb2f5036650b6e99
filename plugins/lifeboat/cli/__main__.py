"""``python -m lifeboat.cli``: the same as the installed command."""

from lifeboat.cli import main

main()
