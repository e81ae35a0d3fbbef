"""What a base model's folder holds and whether it is sound, read from its files alone. Nothing here imports torch."""
