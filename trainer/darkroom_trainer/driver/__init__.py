"""What starts a training and follows it: on this machine, or as an attempt on a cluster."""
