"""An index's memory: its catalogue entry, its commit log, its snapshots, and who writes them."""
