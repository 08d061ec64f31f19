"""Normal bone, osteopenia or osteoporosis in a knee radiograph: the bundle."""
