"""What a training leaves behind: checkpoints, and the published model with its card."""
