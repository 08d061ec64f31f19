"""Training and evaluation with a site's own data, and the installation of its weights."""
