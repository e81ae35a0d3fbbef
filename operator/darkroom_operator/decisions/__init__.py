"""Decides what to do about a job. Pure: what is known goes in, a decision comes out.

`decide` is the entry, with a diagram of the life of a job. It asks in turn:

| module | question |
|---|---|
| `acceptance` | can the job run as it is written? |
| `open_attempt` | an attempt is open: is it launched, queued, starting or running? |
| `failures`, `failure_rules` | why did an attempt end, and whose fault was it? |
| `next_attempt`, `attempts` | no attempt is open: may there be another, when, and on which budget? |
| `finished` | what is left to do for a job that is over or being deleted? |
| `conditions`, `progress`, `events` | what do the status and the events say? |
| `refusals`, `write_pacing` | what is held back for now? |

`observed` and `actions` are the types of what goes in and comes out, `draft` is what the steps pass on.

An example, a worker that dies at step 40 with `backoffLimit: 0`: `decide` sees that the run has failed,
asks `failures` for the cause (`WorkerDied`: not the job's own fault) and closes the attempt; `attempts`
charges the infrastructure budget; `next_attempt` finds it used up and ends the job with
`BackoffLimitExceeded`. The checkpoint of step 40 stays: a new job of the same spec continues from it.
"""
