"""The kopf operator: watches PersonalizationJobs and launches Ray jobs for them."""
