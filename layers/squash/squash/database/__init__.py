"""The Python face: `connect`, `Database`, `Index`. It checks arguments and delegates."""

from squash.database.database import Database, connect
from squash.database.index import Index

__all__ = ["Database", "Index", "connect"]
