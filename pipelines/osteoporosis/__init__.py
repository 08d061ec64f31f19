"""What the two osteoporosis pipelines share: data, training, cross-validation, controls."""
