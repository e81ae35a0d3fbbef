"""The families of base models: what differs between them, each in a folder of its own."""
