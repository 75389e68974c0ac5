"""The command line: arguments to calls of the Python face, values to tables or JSON."""
