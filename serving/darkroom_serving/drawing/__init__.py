"""From a checked request to the file of a picture."""
