"""Report of a finished run: one HTML page and figures."""

from jmsnas.callable_package import make_callable

make_callable(__name__)
