"""Scripts that run inside containers, by their path; they import nothing of Squash."""
