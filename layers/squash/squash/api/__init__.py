"""The HTTP interface: an event becomes a call, an answer or a problem; credentials; functions."""
