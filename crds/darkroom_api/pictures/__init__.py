"""Pictures from outside, for trainer, serving and command alike: decoded, and read from folders of photos."""
