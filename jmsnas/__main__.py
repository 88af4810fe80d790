"""`python -m jmsnas`: the command line, for torchrun and wherever the script is not on the path."""

from jmsnas.cli import app

app()
