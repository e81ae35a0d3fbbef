"""The families of models that can be drawn with: what differs between them, each in a module of its own."""
