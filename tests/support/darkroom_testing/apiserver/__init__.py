"""The operator as a process on a real apiserver, the world around it, and a proxy that fails calls."""
