"""What a training is given: photos, the base model, class images, the machine. Nothing here imports torch."""
