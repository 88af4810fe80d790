"""Load the HTML templates of the report pages."""

from base64 import b64encode

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from jmsnas.origin import origin_label
from jmsnas.report.plot_style import milliseconds, percent
from jmsnas.units import format_rate


def load_template(name: str) -> Template:
    """Load a template of this package with its filters; all values are HTML-escaped."""
    loader = PackageLoader("jmsnas.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(ms=milliseconds, percent=percent, rate=format_rate, mark=origin_label)
    environment.filters["base64"] = lambda content: b64encode(content).decode()
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template(name)
