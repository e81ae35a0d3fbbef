"""The kopf operator: watches PersonalizationJobs and launches Ray jobs for them.

The way of a job through it: `watches` takes an event into `memory` and queues the job; `workqueue` hands it
to `reconciler`, which has it observed (`observer`), decided about (`decisions.decide`) and carried out
(`cluster.client`, `launch`). `process` wires all of that, `server` takes the reports of attempts.
"""
