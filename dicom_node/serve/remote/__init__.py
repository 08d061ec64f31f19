"""Pipelines on a Ray cluster: the only room that imports Ray.

The worker stays the one that claims jobs, renews its claims and records results. Here is what it
hands the inference to: actors with warm weights, on whatever machine Ray puts them.
"""
