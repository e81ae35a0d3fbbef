"""Ray on one machine, for `train` and `serve` alike: closed to the network, and gone when its owner is."""
