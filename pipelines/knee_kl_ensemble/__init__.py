"""Kellgren-Lawrence grade of the knee: bundle, training and evaluation."""
