"""Z-Image: a transformer that matches flows, conditioned on the states of a frozen language model."""
