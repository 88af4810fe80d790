"""Entry point of `python -m jmsnas`, for torchrun and for environments without the `jmsnas` script."""

from jmsnas.cli import app

app()
