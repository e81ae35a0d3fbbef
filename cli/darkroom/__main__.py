"""`python -m darkroom` is the command `darkroom`."""

from darkroom.main import main

main()
