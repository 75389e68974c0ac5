"""The bulk build: from files to a published index, as tasks that run here or in functions."""
