"""What packages do when they are imported or first used, and functions do not ask of them.

It is put off, left out, or done once, in the copies that a layer holds. A build fails where a
package no longer has what is replaced here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

# What a cold start would import, and no function asks of packages: manuals of what is compiled, a
# sixth of NumPy's import; the makers of botocore's manuals, with a reader of HTML; and urllib3's
# HTTP/2, with a reader of the packages that are installed.
_NOTHING: Final = '"""Nothing: no function asks for what was here."""\n'
_UNDOCUMENTED: Final = '''"""Manuals of methods that are made at run time: none."""


class ClientMethodDocstring(str):
    """No manual, whatever it would be made of."""

    __slots__ = ()

    def __new__(cls, *_, **__):
        return super().__new__(cls)


PaginatorDocstring = WaiterDocstring = ClientMethodDocstring
'''
_REPLACED: Final = {
    "botocore/docs/__init__.py": _NOTHING,
    "botocore/docs/docstring.py": _UNDOCUMENTED,
    "numpy/_core/_add_newdocs.py": _NOTHING,
    "numpy/_core/_add_newdocs_scalars.py": _NOTHING,
    "urllib3/http2/__init__.py": _NOTHING,
}
# Which of all texts is an address of IPv6 is asked four times by expressions that take as long to
# compile as a tenth of NumPy does to import. For what has brackets around it, this tells as well.
_ADDRESS: Final = '"(?:" + "|".join([x % _subs for x in _variations]) + ")"'
_ADDRESS_SHORT: Final = 'r"(?:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)"'
_ADDRESSES: Final = ("botocore/compat.py", "urllib3/util/url.py")
# Modules that are imported for what functions rarely or never do: whoever does it has them loaded
# then, so that packages still do all that they did.
_LATER: Final = {
    "botocore/configloader.py": ("configparser",),
    "botocore/credentials.py": ("dateutil.parser",),
    "botocore/paginate.py": ("jmespath",),
    "botocore/regions.py": ("jmespath",),
    "botocore/tokens.py": ("dateutil.parser",),
    "botocore/utils.py": ("dateutil.parser",),
    "botocore/waiter.py": ("jmespath",),
    "numpy/_core/_methods.py": ("pickle",),
    "numpy/lib/_format_impl.py": ("pickle",),
    "numpy/lib/_npyio_impl.py": ("pickle",),
}
_LATER_MODULE: Final = "_later"
_LATER_SOURCE: Final = '''"""Modules that are imported when something of them is first used."""

from importlib import import_module


class _Later:
    __slots__ = ("_name",)

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        return getattr(import_module(self._name), name)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Later(name)
'''
# Other words for the same: a type for annotations that loads all of numpy._typing, a tenth of
# NumPy's import, and a function that would load its module.
_REWORDED: Final = {
    # Powertools' paths into events, metrics and tracer: who logs alone asks for none of them.
    "aws_lambda_powertools/logging/logger.py": (
        "from aws_lambda_powertools.utilities import jmespath_utils\n",
        """from _later import _Later

jmespath_utils = _Later("aws_lambda_powertools.utilities.jmespath_utils")
""",
    ),
    "aws_lambda_powertools/__init__.py": (
        "from aws_lambda_powertools.metrics import Metrics, single_metric\n",
        """

def __getattr__(name):
    if name in {"Metrics", "single_metric"}:
        from aws_lambda_powertools import metrics as found
    elif name == "Tracer":
        from aws_lambda_powertools import tracing as found
    else:
        raise AttributeError(name)
    return getattr(found, name)


""",
    ),
    "botocore/credentials.py": (
        "from dateutil.parser import parse\n",
        "def parse(*words, **named): return dateutil.parser.parse(*words, **named)\n",
    ),
    "numpy/linalg/_linalg.py": (
        "from numpy._typing import NDArray\n",
        "from numpy._core import ndarray as NDArray\n",
    ),
}
_NO_TRACER: Final = ("from aws_lambda_powertools.tracing import Tracer\n", "")
# For every connection botocore has urllib3 read all certificates of its bundle, which takes a third
# as long as NumPy's import; a cold function opens up to ten at once. They are read once for a
# client, when its first connection wants them, and by one thread: another would find some of them
# there, and not the one that it needs.
_TRUSTED_ONCE: Final = (
    ("import sys\n", "import sys\nimport threading\n"),
    (
        "\ndef get_cert_path(verify):\n",
        "\n_TRUSTING = threading.Lock()\n\n\ndef get_cert_path(verify):\n",
    ),
    (
        "            conn.ca_certs = get_cert_path(verify)\n",
        """            conn.ca_certs = None
            context = conn.conn_kw['ssl_context']
            with _TRUSTING:
                if not context.cert_store_stats()['x509']:
                    context.load_verify_locations(get_cert_path(verify))
""",
    ),
)


def shorten_imports(site: Path) -> None:
    """Have the packages of a layer import less, and read certificates once."""
    for name, source in _REPLACED.items():
        if not (site / name).exists():
            raise ValueError(f"{name} is no longer there to be replaced: see what it became")
        (site / name).write_text(source)
    for name in _ADDRESSES:
        _reword(site / name, _ADDRESS, _ADDRESS_SHORT)
    for name, (words, others) in _REWORDED.items():
        _reword(site / name, words, others)
    _reword(site / "aws_lambda_powertools" / "__init__.py", *_NO_TRACER)
    for words, others in _TRUSTED_ONCE:
        _reword(site / "botocore" / "httpsession.py", words, others)
    (site / f"{_LATER_MODULE}.py").write_text(_LATER_SOURCE)
    for name, modules in _LATER.items():
        for module in modules:
            top = module.partition(".")[0]
            _reword(site / name, f"\nimport {module}\n", f"\nfrom {_LATER_MODULE} import {top}\n")


def _reword(path: Path, words: str, others: str) -> None:
    source = path.read_text()
    if source.count(words) != 1:
        raise ValueError(f"{path}: no longer has {words!r} once: see what it became")
    path.write_text(source.replace(words, others))
