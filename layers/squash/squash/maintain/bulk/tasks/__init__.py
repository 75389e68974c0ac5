"""The tasks of a build, one module a stage: each does one batch, and may be run again any time."""
