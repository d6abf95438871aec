"""`python -m webapp.cli …`, which is what bin/keypost starts."""

from webapp.cli import main

main(prog_name="keypost")
