"""Files that other hosts hold: a server that gives them out, and who asks it for them."""
