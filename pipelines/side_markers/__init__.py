"""Reading the letter that names the side of a radiograph: its networks' training and figures."""
