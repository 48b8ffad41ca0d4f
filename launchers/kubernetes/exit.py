"""What the two sides of a Job agree on: its exit codes, and words about its end."""

FRESH = 75
"""The rest needs a fresh deployment."""
EVICTED_TOO_OFTEN = "the benchmark Job was evicted {number} times in a row"
