"""Writes the objects of each deployment of a Kubernetes system as files, and tells where. Asks no cluster anything."""

from __future__ import annotations

import sys

from compiler.manifests import BENCHMARK, STACK, files, settings_of
from compiler.plan import Plan
from compiler.sweep import group
from launchers.store import Store, StoreError


def write(plan: Plan, store: Store) -> None:
    """The text of what would be applied, in the deployments' folders of the store."""
    for each in group(plan, plan.points):
        try:
            texts = files(each.deployment, each.points, settings_of(each.points[0].config))
            folder = store.write_deployment(each.deployment, texts)
        except (StoreError, ValueError) as problem:
            print(f"warning: {problem}", file=sys.stderr)
            return
        print(f"servix: written: {folder / STACK}, {folder / BENCHMARK}", file=sys.stderr)
