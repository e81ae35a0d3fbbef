"""The trainer: DreamBooth on Ray Train and DeepSpeed, from a job to a published model.

`driver` prepares a job from its `inputs` and starts Ray; each worker runs `training.loop`, which writes
checkpoints and the model (`output`) and says how it goes (`progress`).
"""
