"""Recipe of the miniature: a tiny base model and classifier, rebuilt by `python -m miniature build`."""
