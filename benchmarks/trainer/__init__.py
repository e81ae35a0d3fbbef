"""What needs a GPU to be measured of the trainer."""
