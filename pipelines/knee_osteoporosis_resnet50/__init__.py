"""Osteoporosis in a knee radiograph, yes or no: the bundle."""
