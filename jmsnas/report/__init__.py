"""Reports: the HTML page and plots of a finished run, and of a comparison of runs."""

from jmsnas.callable_package import make_callable

make_callable(__name__)
