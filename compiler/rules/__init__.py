"""Rules by subject; `check` holds the table."""
