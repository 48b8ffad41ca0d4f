"""Launchers: plan -> running processes -> results. All effects of servix live here."""
