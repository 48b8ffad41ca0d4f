"""Sections of the typed configuration, which `model` puts together."""
