"""Evaluates a published model: draws its subject and its class, and compares the pictures with the photos."""
