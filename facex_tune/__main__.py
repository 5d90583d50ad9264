"""`python -m facex_tune`: the command line where its script is not on the path, as in a job on a cluster."""

from facex_tune.cli import main

main()
