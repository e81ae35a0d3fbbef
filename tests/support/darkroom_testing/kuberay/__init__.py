"""Jobs in real pods, their volumes seen from the node, and what a cluster does to them."""
