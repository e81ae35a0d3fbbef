"""Brings models from outside into sealed folders: recognised, planned, written whole, checked and sealed."""
