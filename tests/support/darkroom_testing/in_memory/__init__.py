"""The operator without a cluster: jobs and observations to decide about, and a fake API in memory."""
