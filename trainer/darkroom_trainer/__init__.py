"""The DreamBooth trainer on Ray Train and DeepSpeed."""
