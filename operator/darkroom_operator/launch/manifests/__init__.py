"""What the operator makes in a cluster, as pure functions: a job and settings in, a manifest out.

The same input gives the same manifest, so applying one again changes nothing. Golden files in
`tests/operator/data` show them whole.
"""
