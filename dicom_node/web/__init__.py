"""The dashboard and the JSON API: what the command line does, for browsers and scripts."""
