"""Squash: vector search with exact filters, in your own account or on one machine."""
