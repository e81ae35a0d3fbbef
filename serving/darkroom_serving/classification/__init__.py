"""Says what pictures show."""
