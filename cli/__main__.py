"""`python -P -m outrider.cli`, the same as the console script."""

from outrider.cli.main import main

main()
